"""One run while it trains: from its first state, or its last checkpoint, to its end."""

import time
from collections.abc import Sequence
from pathlib import Path

from research import processes
from research.data import identity
from research.errors import UserError
from research.reporting.messages import Messages
from research.reporting.progress import Progress, Silent
from research.reporting.records import MetricWriter, median_throughput, named_writers, read_metrics
from research.training import (
    advance,
    copies,
    divergence,
    early_stopping,
    hyperparameters,
    interruption,
    loop,
    transfer,
)
from research.training.checkpoints import Checkpoints
from research.training.dispatch import Pace
from research.training.plan import Plan
from research.training.program import Program, compiled
from research.training.setup import Setup
from research.training.state import TrainState


class Session(loop.Host):
    """Hold the memory of a run while it trains, and answer the loop.

    Args:
      run: the run.
      plan: when to log, evaluate, save and stop.
      workdir: the run folder.
      checkpoints: the checkpoints in it.
      messages: prints lines and records events.
      stopped: the signals received so far; one is enough to stop.
      started: when the process started, by `time.perf_counter`.

    Attributes:
      stops_early: whether early stopping may end the run; the best state is tested then.
      objective: the metric that decides which state is the best.
      records: the records of `metrics.jsonl`.
      compile_seconds: how long compilation took.
      divergence: the contents of `summary.json` if the run diverged for good.
    """

    def __init__(
        self,
        run: Setup,
        plan: Plan,
        workdir: Path,
        checkpoints: Checkpoints,
        messages: Messages,
        stopped: Sequence[int],
        started: float,
    ):
        self._run, self._plan, self._workdir = run, plan, workdir
        self._checkpoints, self._messages, self._stopped = checkpoints, messages, stopped
        self._started = started
        self._patience = hyperparameters.in_steps(
            run.config, "early_stopping.patience", len(run.train)
        )
        self.stops_early = bool(self._patience)
        self.objective = early_stopping.objective(run.config, run.task)
        self.records: list[dict] = []
        self.compile_seconds = 0.0
        self.divergence: dict | None = None
        self._rollbacks = 0
        self._window: dict | None = None  # the metrics of unlogged steps, of a checkpoint
        self._copies_on_device: bool | None = None  # None: nothing has been saved yet
        self._writers = named_writers(run.config) if processes.first() else {}
        self._writer: MetricWriter | Silent = Silent()
        self._progress: Progress | Silent = Silent()
        self._batches = advance.batches_from_disk(run)

    def train(self, first: TrainState) -> TrainState | None:
        """Train from the last checkpoint, or from the first state, to the end or a signal.

        Returns:
          The last state; None if the run diverged for good.
        """
        with interruption.at_once(self._stopped):
            state = self._begin(first)
            compiling = time.perf_counter()
            program = compiled(self._run, state, self._batches)
            self.compile_seconds = time.perf_counter() - compiling
        while True:
            try:
                return self._fit(state, program)
            except loop.Diverged as error:
                if not self._may_roll_back():
                    self._explain(error, program)
                    return None
                state = self._roll_back(error)

    @property
    def enough(self) -> bool:
        """Return whether early stopping has run out of patience."""
        return self.stops_early and self.judge().enough

    @property
    def steps_per_epoch(self) -> float:
        """Return the number of steps in an epoch, which need not be whole."""
        return len(self._run.train) / self._run.config.batch_size

    def costs(self, step: int) -> dict:
        """Return how much training it took to reach a step, for `summary.json`."""
        return {
            "steps": step,
            "epochs": step / self.steps_per_epoch,
            "compile_seconds": self.compile_seconds,
            "examples_per_second": median_throughput(self._workdir),
            "wall_seconds": self.wall_seconds(),
        }

    def wall_seconds(self) -> float:
        """Return the seconds since the start of this process, and those of resumed processes."""
        return time.perf_counter() - self._started

    def failed(self, line: str) -> None:
        """Warn that a file could not be written, or stop, by `config.checkpoint.on_error`.

        Raises:
          UserError: the config says to stop.
        """
        if self._run.config.checkpoint.on_error == "stop":
            raise UserError(line)
        self._messages.warn(f"{line}; training goes on")

    def interrupted(self) -> bool:
        """Return whether a signal has arrived."""
        return bool(self._stopped)

    def write(self, record: dict) -> None:
        """Write a record to `metrics.jsonl` and to the other writers."""
        self.records.append(record)
        epoch = record["step"] / self.steps_per_epoch
        try:
            self._writer.write({**record, "epoch": epoch, "seconds": self.wall_seconds()})
        except OSError as error:
            self.failed(f"{self._workdir}/metrics.jsonl: {error.strerror}")

    def show(self, step: int, metrics: dict) -> None:
        """Show progress on the screen."""
        self._progress.update(step, metrics)

    def judge(self) -> early_stopping.Verdict:
        """Judge the records so far by early stopping."""
        return early_stopping.verdict(
            self._run.config, self.objective, self.records, self._patience
        )

    def copy(self, state: TrainState) -> copies.Copies:
        """Copy what is saved of a state, on the device if it has room."""
        if self._copies_on_device is None:
            self._copies_on_device = copies.has_room(state)
        return copies.copied(state, self._copies_on_device)

    def save(
        self, step: int, copies: copies.Copies, records: dict[str, dict], window: dict | None
    ) -> None:
        """Start to save a checkpoint, with the validation metrics of its step."""
        config = self._run.config
        metadata = {
            **identity.to_metadata(self._run.fingerprint()),
            "wall_seconds": self.wall_seconds(),
            "rollbacks": self._rollbacks,
            "window": window,
        }
        record = records[early_stopping.deciding_split(config)] if records else {}
        metrics = {
            f"validation_{name}": value
            for name, value in record.items()
            if isinstance(value, float)
        }
        planned = self._plan.may_return_to(step)
        self._checkpoints.save(step, config, copies, metadata, self.objective, metrics, planned)

    def _begin(self, first: TrainState) -> TrainState:
        """Return the state to train from; report and record whether the run starts or resumes."""
        state, metadata, transferred = self._at(first)
        step = int(state.step)
        if metadata:
            self._messages.tell(f"resuming {self._workdir} at step {step}")
        self._messages.record("resume" if metadata else "start", step)
        if transferred:
            self._messages.tell(transfer.told(transferred))
            self._messages.record("transfer", step, **transferred)
        self._rollbacks = metadata.get("rollbacks", 0)
        self._window = metadata.get("window")
        self._started -= metadata.get("wall_seconds", 0.0)
        return self._ready(state)

    def _fit(self, state: TrainState, program: Program) -> TrainState:
        step, total, config = int(state.step), self._plan.total_steps, self._run.config
        silent = Silent()
        writer = progress = silent
        if processes.first():
            writer = MetricWriter(self._workdir, step, config, self._writers, self._messages.warn)
            progress = Progress(total, self.steps_per_epoch, step, self.objective.metric)
        with writer as self._writer, progress as self._progress:
            self.records = [r for r in read_metrics(self._workdir) if r["step"] <= step]
            pace = Pace(config.compute.steps_per_dispatch)
            return loop.fit(state, self._plan, self._run.task, program, self, pace, self._window)

    def _at(self, state: TrainState, step: int | None = None) -> tuple[TrainState, dict, dict]:
        """Return the run at its last checkpoint, or at a step; 0 is its start.

        Args:
          state: a new first state, used if the run has no checkpoint, and for the shapes.
          step: the step; None: that of the last checkpoint.

        Returns:
          The state, the metadata of its checkpoint, and the report of a transfer at the start.
        """
        if step != 0:
            restored = self._checkpoints.restore(lambda *_: state, step, self._messages.warn)
            if restored:
                return *restored, {}
        if self._run.config.transfer.checkpoint:
            state, transferred = transfer.start_from(self._run, state)
            return state, {}, transferred
        return state, {}, {}

    def _ready(self, state: TrainState) -> TrainState:
        """Place a state on the devices to train from it; move the stream of data to its step."""
        if self._batches is not None:
            self._batches.seek(int(state.step))
        return self._run.sharding.place(divergence.slowed(state, self._rollbacks))

    @property
    def _learning_rate(self) -> float:
        return self._run.config.optimizer.learning_rate * 0.5**self._rollbacks

    def _may_roll_back(self) -> bool:
        config = self._run.config
        return config.on_divergence == "rollback" and self._rollbacks < config.max_rollbacks

    def _roll_back(self, error: loop.Diverged) -> TrainState:
        """Return the state of an earlier checkpoint, with half the learning rate."""
        back_to = self._checkpoints.return_to(self._rollbacks)
        state, metadata, _ = self._at(self._run.init(), back_to)
        self._window = metadata.get("window")
        self._rollbacks += 1
        state = self._ready(state)
        step, rate = int(state.step), self._learning_rate
        details = {"to": step, "rollbacks": self._rollbacks, "learning_rate": rate}
        self._messages.record("rollback", error.step, **details)
        self._messages.warn(
            f"{error}; back to step {step} with config.optimizer.learning_rate = {rate:g} "
            f"(rollback {self._rollbacks} of {self._run.config.max_rollbacks})"
        )
        return state

    def _explain(self, error: loop.Diverged, program: Program) -> None:
        """Report the first step and layer with non-finite numbers, and the likely cause."""
        from research.training import cause, nonfinite

        run = self._run
        last = self._ready(self._at(run.init())[0])
        place = nonfinite.find(run, error, last, program.advance, self.interrupted)
        start = cause.Start.of(self._ready(self._at(run.init(), 0)[0]), program.advance)
        why = cause.likely_cause(run, error, place, start, self._learning_rate)
        self._messages.record("diverged", place.step, layer=place.layer, cause=why)
        where = f", first in {place.layer}" if place.layer else ""
        self._messages.warn(
            f"diverged: {error.what} not finite at step {place.step}{where}{self._policy()}; "
            f"likely cause: {why}"
        )
        self.divergence = {
            "diverged": True,
            "what": f"{error.what} not finite",
            "layer": place.layer,
            "cause": why,
            "last_finite": divergence.last_finite(self.records, place.step),
            **self.costs(place.step),
        }

    def _policy(self) -> str:
        """Return why `on_divergence` did not save the run; '' for 'stop'."""
        config = self._run.config
        return {
            "stop": "",
            "rollback": f" after {self._rollbacks} rollbacks (config.max_rollbacks = "
            f"{config.max_rollbacks})",
            "skip_step": " (config.on_divergence = 'skip_step' leaves out single steps; "
            f"config.log_every = {config.log_every!r})",
        }[config.on_divergence]
