"""The training loop: dispatches steps, looks at their results one dispatch later, saves."""

import dataclasses
import math
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any

import jax
import numpy as np

from research.tasks import Task
from research.training import metrics
from research.training.early_stopping import Verdict
from research.training.metrics import NEVER, StepMetrics, Sums
from research.training.plan import Plan
from research.training.state import TrainState

_DISPATCH_SECONDS = 0.5  # long enough to hide the dispatch, short enough for a live progress bar


class Diverged(Exception):
    """Something is no longer finite. Entry points exit with code 3.

    `what` is not finite after `step`, or from it on; after step `since` all was.
    """

    def __init__(self, what: str, step: int, since: int):
        super().__init__(f"{what} not finite at step {step}")
        self.what, self.step, self.since = what, step, since


@dataclasses.dataclass
class Pace:
    """How many steps to dispatch at once."""

    fixed: int  # 0: as many as take half a second
    steps: int = 1

    def __post_init__(self):
        self.steps = self.fixed or self.steps

    def update(self, steps: int, seconds: float) -> None:
        """Learns from a finished dispatch; grows at most fourfold at a time."""
        if not self.fixed:
            wanted = _DISPATCH_SECONDS * steps / max(seconds, 1e-6)
            self.steps = max(1, min(int(wanted), 4 * self.steps))


@dataclasses.dataclass
class _Dispatch:
    """A dispatch whose results may still be on their way."""

    step: int  # after it
    steps: int
    metrics: StepMetrics
    finite: Any
    evaluated: dict[str, Sums] | None  # by the name of the split
    copies: Any = None  # of the state, where it is to be saved


class _Window:
    """The training metrics since the last log point.

    Args:
      task: the task.
      saved: the return value of `saved` of an earlier window, from a checkpoint.
    """

    def __init__(self, task: Task, saved: dict | None = None):
        self._task = task
        self.metrics: StepMetrics | None = None
        self._seconds = 0.0
        if saved:
            self.metrics = metrics.from_json(saved["metrics"])
            self._seconds = saved["seconds"]

    def saved(self) -> dict | None:
        """Return JSON values; None if nothing has been added since the last log point."""
        if self.metrics is None:
            return None
        return {"metrics": metrics.to_json(self.metrics), "seconds": self._seconds}

    def add(self, of_dispatch: StepMetrics, seconds: float) -> None:
        """Take in the metrics of a dispatch that took so long."""
        self.metrics = (
            of_dispatch if self.metrics is None else metrics.join(self.metrics, of_dispatch, np)
        )
        self._seconds += seconds

    def close(self, dispatch: _Dispatch) -> dict:
        """Return the record of all up to this dispatch; begin the next window.

        Raises:
          Diverged: all steps were skipped.
        """
        found = self.metrics
        _, weights = (found.sums.members or found.sums.means)["loss"]
        if not np.all(weights):
            what = "gradients of all steps since the last log point are"
            raise Diverged(what, dispatch.step, dispatch.step - dispatch.steps)
        record = {"step": dispatch.step, "split": "train"}
        record |= metrics.values(self._task, found.sums)
        record["examples_per_second"] = int(found.examples) / self._seconds
        record["learning_rate"] = float(found.learning_rate)
        if found.skipped:
            record["skipped_steps"] = int(found.skipped)
        self.metrics, self._seconds = None, 0.0
        return record


def _demand_finite(dispatch: _Dispatch, found: StepMetrics, finite: bool) -> None:
    since = dispatch.step - dispatch.steps
    if found.first_nonfinite_step != NEVER:
        step = int(found.first_nonfinite_step)
        raise Diverged(f"the training loss{_of_members(found.sums)} is", step, since)
    if not finite:
        raise Diverged("gradients or parameters are", dispatch.step, since)


class _Inline(Executor):
    """Calls at once, in the thread that asks; so what is raised is raised there."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def _dispatcher() -> Executor:
    """Where steps are dispatched from.

    A thread of its own: on a GPU, XLA holds it until a loop of a number of steps that it was only
    told is almost over (BUILD_NOTES.md, Speed on GPU). Not with other processes: programs that all
    of them take part in must start in one order everywhere, and where one of them cannot start its
    steps, it must not wait for the others in anything else.
    """
    return ThreadPoolExecutor(1, "dispatch") if jax.process_count() == 1 else _Inline()


def fit(
    state: TrainState,
    plan: Plan,
    task: Task,
    *,
    advance: Callable[[TrainState, int], tuple[TrainState, StepMetrics]],
    healthy: Callable[[TrainState], Any],
    evaluate: Callable[[TrainState], dict[str, Sums]] | None,
    copy: Callable[[TrainState], Any],
    save: Callable[[int, Any, dict | None, dict | None], None],
    write: Callable[[dict], None],
    progress: Callable[[int, dict], None],
    interrupted: Callable[[], bool],
    pace: Pace,
    judge: Callable[[], Verdict] | None = None,
    agree: Callable[[bool, int], tuple[bool, int]] = lambda stop, steps: (stop, steps),
    window: dict | None = None,
) -> TrainState:
    """Trains from the state's step to the plan's end.

    While the device works on one dispatch the results of the one before are fetched and saved, so
    that it need not wait for Python but at an evaluation that may end the run, and where there are
    other processes. What a kill costs is therefore all since the last checkpoint, and one dispatch.

    Args:
      state: where to start; its buffers are donated.
      plan: when to log, evaluate, save and stop.
      task: turns sums of metrics into what is reported.
      advance: runs some steps in one dispatch, as `executors.resident` does. Like
        `healthy` and `evaluate` it is called in another thread, but one of them at a time.
      healthy: whether a state is finite; asked after every dispatch.
      evaluate: sums over the validation split, {'validation': ..., and others}; None where there
        is none.
      copy: keeps what of a state is saved; it need not wait for the device.
      save: is told (step, copies, validation records of that step, by split, window), once the
        state is known to be finite; starts to save a checkpoint.
      write: takes a finished record of metrics: {'step', 'split', 'loss', others by name}.
      progress: is told (step, metrics) after every dispatch.
      interrupted: asked between dispatches; True ends the loop after a checkpoint.
      pace: how many steps to dispatch at once.
      judge: asked at the start and after each evaluation; may end the loop. A state that is the
        best so far, or the last, is saved. None: nothing ends it early, nothing waits for it.
      agree: makes (stop, steps) of this process those of all: they must dispatch alike.
      window: what was to be saved with the state: the metrics of steps that are not logged yet.

    Returns:
      The last state.

    Raises:
      Diverged: a loss, a gradient or a parameter was not finite, or all steps between two log
        points were skipped for that; nothing was saved since.
    """
    step = int(state.step)
    window = _Window(task, window)
    last = time.perf_counter()

    def finish(dispatch: _Dispatch) -> dict | None:
        """Waits for a dispatch and tells of it; returns the validation records, if any."""
        nonlocal last
        found, finite = jax.device_get((dispatch.metrics, dispatch.finite))
        now = time.perf_counter()
        seconds, last = now - last, now
        pace.update(dispatch.steps, seconds)
        _demand_finite(dispatch, found, finite)
        window.add(found, seconds)
        shown = metrics.values(task, found.sums)
        shown["examples_per_second"] = int(found.examples) / seconds
        if plan.logs_at(dispatch.step):
            write(window.close(dispatch))
        records = None
        if dispatch.evaluated is not None:
            sums_of = jax.device_get(dispatch.evaluated)
            last = time.perf_counter()
            records = {
                split: {"step": dispatch.step, "split": split, **metrics.values(task, sums)}
                for split, sums in sums_of.items()
            }
            for split, record in records.items():
                write(record)
                shown |= {f"{split}_{name}": value for name, value in record.items()}
            for split, record in records.items():
                if not math.isfinite(record["loss"]):
                    what = f"the {split} loss{_of_members(sums_of[split])} is"
                    raise Diverged(what, dispatch.step, dispatch.step)
        progress(dispatch.step, shown)
        return records

    def settle(dispatch: _Dispatch) -> bool:
        """Waits for a dispatch, and saves what it led to; returns whether that ends the loop."""
        nonlocal saved
        records = finish(dispatch)  # first: a state that diverged must not be saved
        new_best, enough = judge() if judge and records else (False, False)
        if enough and window.metrics is not None:
            write(window.close(dispatch))
        copies = dispatch.copies
        if copies is None and (new_best or enough):
            copies = copy(state)  # still that of the dispatch
        if copies is not None:
            save(dispatch.step, copies, records, window.saved())
            saved = dispatch.step
        return enough

    def dispatched(state: TrainState, step: int, steps: int) -> tuple[TrainState, _Dispatch]:
        """Some steps up to this one, and what is asked of the state they lead to."""
        state, of_steps = advance(state, steps)
        evaluated = evaluate(state) if evaluate and plan.evaluates_at(step) else None
        return state, _Dispatch(step, steps, of_steps, healthy(state), evaluated)

    previous = None
    saved = step
    enough = judge is not None and judge().enough
    with _dispatcher() as dispatcher:
        while step < plan.total_steps and not enough:
            stop, steps = agree(interrupted(), pace.steps)
            if stop:
                break
            steps = min(plan.next_stop(step) - step, steps)
            step += steps
            running = dispatcher.submit(dispatched, state, step, steps)
            if previous:
                settle(previous)
            state, previous = running.result()
            if plan.saves_at(step):
                previous.copies = copy(state)  # may wait for it
            if judge and previous.evaluated:  # it decides whether there is a next one
                enough = settle(previous)
                previous = None
                last = time.perf_counter()
    if previous:
        settle(previous)
    if step < plan.total_steps and saved != step:
        save(step, copy(state), None, window.saved())
    return state


def _of_members(sums: Sums) -> str:
    """Return ' of member 2', counted from 0, for members whose loss is not finite; '' for one."""
    losses, _ = sums.members.get("loss", ((), ()))
    bad = np.flatnonzero(~np.isfinite(losses)).tolist()
    if not bad:
        return ""
    return f" of member{'s' * (len(bad) > 1)} {', '.join(map(str, bad))}"
