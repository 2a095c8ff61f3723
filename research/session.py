"""One run while it trains: from its first state, or its last checkpoint, to its end."""

import time
from collections.abc import Sequence
from pathlib import Path

import jax

from research import processes
from research.data import identity
from research.data.dataset import Records
from research.errors import UserError
from research.reporting.progress import Progress, Silent
from research.reporting.records import MetricWriter, median_throughput, named_writers, read_metrics
from research.reporting.voice import Voice
from research.training import (
    advance,
    copies,
    divergence,
    early_stopping,
    evaluation,
    hyperparameters,
    interruption,
    loop,
    transfer,
)
from research.training.checkpoints import Checkpoints
from research.training.plan import Plan
from research.training.setup import Setup
from research.training.state import TrainState


class Session:
    """What a run holds in memory while it trains, and what it does when something happens.

    Args:
      run: what is trained.
      plan: when what happens.
      workdir: the run folder.
      checkpoints: those in it.
      voice: what is said on the way.
      stopped: signals received so far; one is enough to stop.
      started: when the process started, by `time.perf_counter`.
    """

    def __init__(
        self,
        run: Setup,
        plan: Plan,
        workdir: Path,
        checkpoints: Checkpoints,
        voice: Voice,
        stopped: Sequence[int],
        started: float,
    ):
        self._run, self._plan, self._workdir = run, plan, workdir
        self._checkpoints, self._voice, self._stopped = checkpoints, voice, stopped
        self._started = started
        self._patience = hyperparameters.in_steps(
            run.config, "early_stopping.patience", len(run.train)
        )
        self.objective = early_stopping.objective(run.config, run.task)
        self.records: list[dict] = []  # of metrics.jsonl
        self.divergence: dict | None = None  # what ended it, as `summary.json` tells it
        self._copies_on_device: bool | None = None  # known once there is something to save
        self._writers = named_writers(run.config) if processes.first() else {}
        self._batches = None
        if isinstance(run.train, Records):
            from research.data import stream

            rows = run.sharding.local_rows(run.config.batch_size)
            self._batches = stream.TrainingBatches(
                run.train, run.config.batch_size, run.config.seed, rows
            )

    def begin(self, state: TrainState) -> None:
        """Takes over the last checkpoint, or this first state; compiles."""
        with interruption.at_once(self._stopped):
            state, metadata, transferred = self._at(state)
            step = int(state.step)
            if metadata:
                self._voice.tell(f"resuming {self._workdir} at step {step}")
            self._voice.record("resume" if metadata else "start", step)
            if transferred:
                self._voice.tell(transfer.told(transferred))
                self._voice.record("transfer", step, **transferred)
            self._rollbacks = metadata.get("rollbacks", 0)
            self._window = metadata.get("window")
            self._started -= metadata.get("wall_seconds", 0.0)
            self._state = self._ready(state)
            compiling = time.perf_counter()
            self._compile()
            self.compile_seconds = time.perf_counter() - compiling

    def _compile(self) -> None:
        run, state = self._run, self._state
        if self._batches is None:
            self._advance = advance.over_arrays(run, state)
        else:
            self._advance = advance.over_batches(run, state, self._batches)
        self._evaluate = None
        if len(run.validation):
            self._evaluate = evaluation.validation_evaluator(run, state)
        self._healthy = jax.jit(divergence.healthy).lower(state).compile()

    def train(self) -> TrainState | None:
        """To the end, to where it is stopped, or None where it diverged for good."""
        while True:
            try:
                return self._fit()
            except loop.Diverged as error:
                if not self._rolled_back(error):
                    self._explain(error)
                    return None

    @property
    def enough(self) -> bool:
        """Whether none of the patience of early stopping is left."""
        return bool(self._patience) and self._judge().enough

    @property
    def best_is_tested(self) -> bool:
        """What early stopping finds is the best state, not the last."""
        return bool(self._patience)

    @property
    def steps_per_epoch(self) -> float:
        """An epoch need not be a whole number of steps."""
        return len(self._run.train) / self._run.config.batch_size

    def costs(self, step: int) -> dict:
        """What it took to train so far, as `summary.json` tells it."""
        return {
            "steps": step,
            "epochs": step / self.steps_per_epoch,
            "compile_seconds": self.compile_seconds,
            "examples_per_second": median_throughput(self._workdir),
            "wall_seconds": self.wall_seconds(),
        }

    def wall_seconds(self) -> float:
        """Since the start of the process, and in those that were resumed."""
        return time.perf_counter() - self._started

    def _fit(self) -> TrainState:
        step = int(self._state.step)
        writing = processes.first()
        total = self._plan.total_steps
        with (
            self._metric_writer(step) if writing else Silent() as writer,
            self._progress(total, step) if writing else Silent() as progress,
        ):
            self.records = [r for r in read_metrics(self._workdir) if r["step"] <= step]

            def write(record):
                self.records.append(record)
                place = {"epoch": record["step"] / self.steps_per_epoch}
                try:
                    writer.write({**record, **place, "seconds": self.wall_seconds()})
                except OSError as error:
                    self.failed(f"{self._workdir}/metrics.jsonl: {error.strerror}")

            return loop.fit(
                self._state,
                self._plan,
                self._run.task,
                advance=self._advance,
                healthy=self._healthy,
                evaluate=self._evaluate,
                copy=self._copied,
                save=self._save,
                write=write,
                progress=progress.update,
                interrupted=lambda: bool(self._stopped),
                pace=loop.Pace(self._run.config.compute.steps_per_dispatch),
                judge=self._judge if self._patience else None,
                agree=processes.agree,
                window=self._window,
            )

    def _progress(self, total: int, step: int) -> Progress:
        return Progress(total, self.steps_per_epoch, step, self.objective.metric)

    def _metric_writer(self, step: int) -> MetricWriter:
        return MetricWriter(self._workdir, step, self._run.config, self._writers, self._voice.warn)

    def failed(self, line: str) -> None:
        """Something could not be written.

        Raises:
          UserError: unless `config.checkpoint.on_error` says to go on.
        """
        if self._run.config.checkpoint.on_error == "stop":
            raise UserError(line)
        self._voice.warn(f"{line}; training goes on")

    def _copied(self, state: TrainState) -> copies.Copies:
        if self._copies_on_device is None:
            self._copies_on_device = copies.has_room(state)
        return copies.copied(state, self._copies_on_device)

    def _save(
        self, step: int, copied: copies.Copies, records: dict | None, window: dict | None
    ) -> None:
        config = self._run.config
        metadata = {
            **identity.to_metadata(self._run.fingerprint()),
            "wall_seconds": self.wall_seconds(),
            "rollbacks": self._rollbacks,
            "window": window,
        }
        record = records and records[early_stopping.deciding_split(config)]
        metrics = record and {
            f"validation_{name}": value
            for name, value in record.items()
            if isinstance(value, float)
        }
        planned = self._plan.may_return_to(step)
        self._checkpoints.save(step, config, copied, metadata, self.objective, metrics, planned)

    def _judge(self) -> early_stopping.Verdict:
        return early_stopping.verdict(
            self._run.config, self.objective, self.records, self._patience
        )

    def _at(self, state: TrainState, step: int | None = None) -> tuple[TrainState, dict, dict]:
        """The run at a step, None: at its last checkpoint; 0, or without one: at its start.

        Returns:
          The state, the metadata of its checkpoint, and what was transferred at the start.
        """
        if step != 0:
            warn = self._voice.warn
            restored = self._checkpoints.restore(lambda *_: state, step, warn)
            if restored:
                return *restored, {}
        if self._run.config.transfer.checkpoint:
            state, transferred = transfer.start_from(self._run, state)
            return state, {}, transferred
        return state, {}, {}

    def _ready(self, state: TrainState) -> TrainState:
        """The state to train on from, and the stream of data where it left it."""
        if self._batches is not None:
            self._batches.seek(int(state.step))
        return self._run.sharding.place(divergence.slowed(state, self._rollbacks))

    @property
    def _learning_rate(self) -> float:
        return self._run.config.optimizer.learning_rate * 0.5**self._rollbacks

    def _rolled_back(self, error: loop.Diverged) -> bool:
        """Goes back to a checkpoint, with half the learning rate, where that is left to do."""
        config = self._run.config
        if config.on_divergence != "rollback" or self._rollbacks >= config.max_rollbacks:
            return False
        state, metadata, _ = self._at(
            self._run.init(), self._checkpoints.return_to(self._rollbacks)
        )
        self._window = metadata.get("window")
        self._rollbacks += 1
        self._state = self._ready(state)
        to, rate = int(state.step), self._learning_rate
        details = {"to": to, "rollbacks": self._rollbacks, "learning_rate": rate}
        self._voice.record("rollback", error.step, **details)
        self._voice.warn(
            f"{error}; back to step {to} with config.optimizer.learning_rate = {rate:g} "
            f"(rollback {self._rollbacks} of {config.max_rollbacks})"
        )
        return True

    def _explain(self, error: loop.Diverged) -> None:
        """Says at which step, and in which layer, numbers were not finite first, and why."""
        from research.training import cause, nonfinite

        run = self._run
        state = self._ready(self._at(run.init())[0])
        found = nonfinite.find(run, error, state, self._advance, lambda: bool(self._stopped))
        first = self._ready(self._at(run.init(), 0)[0])
        size, (_, metrics) = cause.size_of(first), self._advance(first, 1)
        start = cause.Start(size, nonfinite.mean_loss(metrics))
        why = cause.likely_cause(run, error, found, start, self._learning_rate)
        self._voice.record("diverged", found.step, layer=found.layer, cause=why)
        where = f", first in {found.layer}" if found.layer else ""
        self._voice.warn(
            f"diverged: {error.what} not finite at step {found.step}{where}{self._policy()}; "
            f"likely cause: {why}"
        )
        self.divergence = {
            "diverged": True,
            "what": f"{error.what} not finite",
            "layer": found.layer,
            "cause": why,
            "last_finite": divergence.last_finite(self.records, found.step),
            **self.costs(found.step),
        }

    def _policy(self) -> str:
        """What ended a run that `on_divergence` was to save; '' where it stops at once."""
        config = self._run.config
        return {
            "stop": "",
            "rollback": f" after {self._rollbacks} rollbacks (config.max_rollbacks = "
            f"{config.max_rollbacks})",
            "skip_step": " (config.on_divergence = 'skip_step' leaves out single steps; "
            f"config.log_every = {config.log_every!r})",
        }[config.on_divergence]
