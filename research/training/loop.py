"""The training loop.

It dispatches steps, reads their results while the next steps run, and saves checkpoints.
"""

import dataclasses
import math
import time
from typing import Any

import jax
import numpy as np

from research import processes
from research.tasks import Task
from research.training import metrics
from research.training.dispatch import Pace, dispatcher
from research.training.early_stopping import Verdict
from research.training.metrics import NEVER, StepMetrics, Sums
from research.training.plan import Plan
from research.training.program import Program
from research.training.state import TrainState


class Diverged(Exception):
    """A loss, a gradient or a parameter is not finite. Entry points exit with code 3.

    Attributes:
      what: what is not finite, with its verb: 'the training loss is'.
      step: the first step after which it was seen.
      since: the last step after which all numbers were finite.
    """

    def __init__(self, what: str, step: int, since: int):
        super().__init__(f"{what} not finite at step {step}")
        self.what, self.step, self.since = what, step, since


class Host:
    """Connect the loop to screen, files and signals. This class does nothing; subclass it."""

    stops_early = False  # True: `judge` decides after each evaluation, and the loop waits for it

    def interrupted(self) -> bool:
        """Return whether to stop after a checkpoint. The loop asks between dispatches."""
        return False

    def write(self, record: dict) -> None:
        """Write a record of metrics: {'step', 'split', 'loss', other metrics by name}."""

    def show(self, step: int, metrics: dict) -> None:
        """Show the metrics of a finished dispatch."""

    def judge(self) -> Verdict:
        """Judge the records so far. The loop saves a state that is the best, or the last."""
        return Verdict(new_best=False, enough=False)

    def copy(self, state: TrainState) -> Any:
        """Return copies of what is saved of a state. This need not wait for the device."""

    def save(self, step: int, copies: Any, records: dict[str, dict], window: dict | None) -> None:
        """Start to save a checkpoint of a state that is known to be finite.

        Args:
          step: the step of the state.
          copies: the return value of `copy`.
          records: the validation records of this step by split; {} if it was not evaluated.
          window: the metrics of the steps that are not logged yet, as JSON values.
        """


@dataclasses.dataclass
class _Dispatch:
    """A dispatch whose results may not have arrived yet."""

    step: int  # the last step of the dispatch
    steps: int
    metrics: StepMetrics
    finite: Any
    evaluated: dict[str, Sums] | None  # by split
    copies: Any = None  # of the state, if it is to be saved


class _Window:
    """The training metrics since the last log point.

    Args:
      task: the task.
      saved: the return value of `to_json` of an earlier window, from a checkpoint.
    """

    def __init__(self, task: Task, saved: dict | None = None):
        self._task = task
        self.metrics = metrics.from_json(saved["metrics"]) if saved else None
        self._seconds = saved["seconds"] if saved else 0.0

    def to_json(self) -> dict | None:
        """Return JSON values; None if nothing has been added since the last log point."""
        if self.metrics is None:
            return None
        return {"metrics": metrics.to_json(self.metrics), "seconds": self._seconds}

    def add(self, added: StepMetrics, seconds: float) -> None:
        """Add the metrics and the duration of a dispatch."""
        self.metrics = added if self.metrics is None else metrics.join(self.metrics, added, np)
        self._seconds += seconds

    def close(self, dispatch: _Dispatch) -> dict:
        """Return the record of all steps up to this dispatch; begin the next window.

        Raises:
          Diverged: all steps were skipped.
        """
        total = self.metrics
        _, weights = (total.sums.members or total.sums.means)["loss"]
        if not np.all(weights):
            what = "gradients of all steps since the last log point are"
            raise Diverged(what, dispatch.step, dispatch.step - dispatch.steps)
        record = {"step": dispatch.step, "split": "train"}
        record |= metrics.values(self._task, total.sums)
        record["examples_per_second"] = int(total.examples) / self._seconds
        record["learning_rate"] = float(total.learning_rate)
        if total.skipped:
            record["skipped_steps"] = int(total.skipped)
        self.metrics, self._seconds = None, 0.0
        return record


def fit(
    state: TrainState,
    plan: Plan,
    task: Task,
    program: Program,
    host: Host,
    pace: Pace,
    window: dict | None = None,
) -> TrainState:
    """Train from the state's step to the plan's end.

    While the device works on one dispatch, this process fetches and saves the results of the one
    before. So the device waits for Python only at an evaluation that may end the run, or if there
    are other processes. A kill costs the steps since the last checkpoint, and one dispatch.

    Args:
      state: the first state; its buffers are donated.
      plan: when to log, evaluate, save and stop.
      task: computes the reported metrics from sums.
      program: the compiled functions.
      host: writes, saves, and may end the loop.
      pace: how many steps to dispatch at once.
      window: the metrics of unlogged steps that were saved with the state.

    Returns:
      The last state.

    Raises:
      Diverged: a loss, a gradient or a parameter is not finite, or all steps between two log points
        were skipped for that reason; nothing was saved since.
    """
    return _Loop(state, plan, task, program, host, pace, window).run()


class _Loop:
    """The state of one training loop; the arguments are those of `fit`."""

    def __init__(
        self,
        state: TrainState,
        plan: Plan,
        task: Task,
        program: Program,
        host: Host,
        pace: Pace,
        window: dict | None,
    ):
        self._state, self._step = state, int(state.step)
        self._plan, self._task, self._program = plan, task, program
        self._host, self._pace, self._window = host, pace, _Window(task, window)
        self._saved = self._step  # the step of the last checkpoint
        self._last = time.perf_counter()  # when the last results arrived

    def run(self) -> TrainState:
        """Train, and return the last state."""
        host, pending = self._host, None
        enough = host.stops_early and host.judge().enough
        with dispatcher() as executor:
            while not enough and (steps := self._next_steps()):
                running = executor.submit(self._dispatch, self._state, self._step + steps, steps)
                if pending:
                    self._settle(pending)
                self._state, pending = running.result()
                self._step = pending.step
                if self._plan.saves_at(self._step):
                    pending.copies = host.copy(self._state)  # may wait for the device
                if host.stops_early and pending.evaluated:  # decides if there is a next dispatch
                    enough = self._settle(pending)
                    pending = None
                    self._last = time.perf_counter()
        if pending:
            self._settle(pending)
        if self._step < self._plan.total_steps and self._saved != self._step:
            host.save(self._step, host.copy(self._state), {}, self._window.to_json())
        return self._state

    def _next_steps(self) -> int:
        """Return how many steps to dispatch; 0 at the end of the plan or after an interrupt."""
        if self._step >= self._plan.total_steps:
            return 0
        stop, steps = processes.agree(self._host.interrupted(), self._pace.steps)
        return 0 if stop else min(self._plan.next_stop(self._step) - self._step, steps)

    def _dispatch(self, state: TrainState, step: int, steps: int) -> tuple[TrainState, _Dispatch]:
        """Dispatch some steps up to `step`, then the checks and the evaluation of their state."""
        state, step_metrics = self._program.advance(state, steps)
        evaluate = self._program.evaluate if self._plan.evaluates_at(step) else None
        evaluated = evaluate(state) if evaluate else None
        return state, _Dispatch(step, steps, step_metrics, self._program.healthy(state), evaluated)

    def _settle(self, dispatch: _Dispatch) -> bool:
        """Report a dispatch and save its state if it is due; return whether training ends here."""
        records = self._report(dispatch)  # first: a state that diverged must not be saved
        new_best, enough = False, False
        if self._host.stops_early and records:
            new_best, enough = self._host.judge()
        if enough and self._window.metrics is not None:
            self._host.write(self._window.close(dispatch))
        copies = dispatch.copies
        if copies is None and (new_best or enough):
            copies = self._host.copy(self._state)  # no later dispatch has replaced it
        if copies is not None:
            self._host.save(dispatch.step, copies, records, self._window.to_json())
            self._saved = dispatch.step
        return enough

    def _report(self, dispatch: _Dispatch) -> dict[str, dict]:
        """Wait for a dispatch, then write and show its metrics.

        Returns:
          The validation records by split; {} if the state was not evaluated.
        """
        step_metrics, finite = jax.device_get((dispatch.metrics, dispatch.finite))
        now = time.perf_counter()
        seconds, self._last = now - self._last, now
        self._pace.update(dispatch.steps, seconds)
        _demand_finite(dispatch, step_metrics, finite)
        self._window.add(step_metrics, seconds)
        shown = metrics.values(self._task, step_metrics.sums)
        shown["examples_per_second"] = int(step_metrics.examples) / seconds
        if self._plan.logs_at(dispatch.step):
            self._host.write(self._window.close(dispatch))
        records = {}
        if dispatch.evaluated is not None:
            records = self._report_evaluation(dispatch.step, jax.device_get(dispatch.evaluated))
        for split, record in records.items():
            shown |= {f"{split}_{name}": value for name, value in record.items()}
        self._host.show(dispatch.step, shown)
        return records

    def _report_evaluation(self, step: int, evaluated: dict[str, Sums]) -> dict[str, dict]:
        """Write the records of an evaluation and return them by split; refuse infinite losses."""
        self._last = time.perf_counter()
        records = {
            split: {"step": step, "split": split, **metrics.values(self._task, sums)}
            for split, sums in evaluated.items()
        }
        for record in records.values():
            self._host.write(record)
        for split, record in records.items():
            if not math.isfinite(record["loss"]):
                raise Diverged(f"the {split} loss{_of_members(evaluated[split])} is", step, step)
        return records


def _demand_finite(dispatch: _Dispatch, step_metrics: StepMetrics, finite: bool) -> None:
    since = dispatch.step - dispatch.steps
    if step_metrics.first_nonfinite_step != NEVER:
        step = int(step_metrics.first_nonfinite_step)
        raise Diverged(f"the training loss{_of_members(step_metrics.sums)} is", step, since)
    if not finite:
        raise Diverged("gradients or parameters are", dispatch.step, since)


def _of_members(sums: Sums) -> str:
    """Return ' of member 2', counted from 0, for members whose loss is not finite; '' for one."""
    losses, _ = sums.members.get("loss", ((), ()))
    bad = np.flatnonzero(~np.isfinite(losses)).tolist()
    if not bad:
        return ""
    return f" of member{'s' * (len(bad) > 1)} {', '.join(map(str, bad))}"
