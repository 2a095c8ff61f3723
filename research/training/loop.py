"""The training loop: dispatches steps, looks at their results one dispatch later, saves."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict

from research.training import executors
from research.training.early_stopping import Verdict
from research.training.state import TrainState

_DISPATCH_SECONDS = 0.5  # long enough to hide the dispatch, short enough for a live progress bar


class Diverged(Exception):
    """Something is no longer finite. Entry points exit with code 3.

    `what` is not finite after `step`, or from it on; after step `since` all was.
    """

    def __init__(self, what: str, step: int, since: int):
        super().__init__(f"{what} not finite at step {step}")
        self.what, self.step, self.since = what, step, since


def likely_cause(config: ConfigDict, step: int, learning_rate: float) -> str:
    """What to change first: before any update it cannot be the learning rate."""
    if step == 1:
        scale = config.model.initializer_scale
        return f"weights or inputs are too large (config.model.initializer_scale = {scale})"
    return f"config.optimizer.learning_rate = {learning_rate:g} is too high"


@dataclasses.dataclass(frozen=True)
class Plan:
    """When what happens, all in steps: at each multiple of an interval, and at the end.

    Of evaluations and checkpoints, the more frequent ones come with each of the rarer ones too, not
    the other way round: the best checkpoint is one of those that were evaluated, and more of either
    cost no more of the other.

    Intervals are at least 1 and need not be whole: multiples are rounded, not the interval, so that
    the fifth of '1 epochs' and the first of '5 epochs' are one.
    """

    total_steps: int
    log_every: float
    evaluate_every: float
    checkpoint_every: float
    snapshots: Sequence[int] = ()  # steps whose checkpoints are kept to the end

    def next_stop(self, step: int) -> int:
        """The first step after this one at which anything happens."""
        intervals = (self.log_every, self.evaluate_every, self.checkpoint_every)
        multiples = (_next_multiple(every, step) for every in intervals)
        snapshots = (snapshot for snapshot in self.snapshots if snapshot > step)
        return min(self.total_steps, *multiples, *snapshots)

    def logs_at(self, step: int) -> bool:
        """Whether the training metrics since the last such point are written."""
        return self._due(step, self.log_every)

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is saved."""
        with_evaluation = self.checkpoint_every <= self.evaluate_every
        return self.may_return_to(step) or (
            with_evaluation and self._due(step, self.evaluate_every)
        )

    def may_return_to(self, step: int) -> bool:
        """Whether its checkpoint is one for a rollback.

        Not if it is there for an evaluation alone: it may be a step away from the next one, and
        what is behind the newest must lie well before it.
        """
        return self._due(step, self.checkpoint_every) or step in self.snapshots

    def evaluates_at(self, step: int) -> bool:
        """Whether the validation split is evaluated."""
        with_checkpoint = self.checkpoint_every >= self.evaluate_every
        return (
            self._due(step, self.evaluate_every)
            or (with_checkpoint and self._due(step, self.checkpoint_every))
            or step in self.snapshots
        )

    def _due(self, step: int, every: float) -> bool:
        return step in (_next_multiple(every, step - 1), self.total_steps)


def _next_multiple(every: float, step: int) -> int:
    """The first rounded multiple of an interval after a step."""
    count = int(step / every)
    while round(count * every) <= step:
        count += 1
    return round(count * every)


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
    metrics: Any
    finite: Any
    evaluated: dict[str, Any] | None  # sums, by the name of the split
    copies: Any  # of the state, where it is to be saved


class _Window:
    """The training metrics since the last log point."""

    def __init__(self):
        self.sums: dict | None = None
        self._seconds = 0.0

    def add(self, metrics: dict, seconds: float) -> None:
        """Takes in the sums of a dispatch that took so long."""
        self.sums = executors.add(self.sums, metrics) if self.sums else metrics
        self._seconds += seconds

    def close(self, dispatch: _Dispatch) -> dict:
        """The record of all up to this dispatch; the next window begins.

        Raises:
          Diverged: all steps were skipped.
        """
        sums = self.sums
        if not np.all(sums.get("member_count", sums["count"])):
            what = "gradients of all steps since the last log point are"
            raise Diverged(what, dispatch.step, dispatch.step - dispatch.steps)
        record = {"step": dispatch.step, "split": "train", **mean(sums)}
        record["examples_per_second"] = int(sums["count"]) / self._seconds
        record["learning_rate"] = float(sums["learning_rate"])
        if sums["skipped"]:
            record["skipped_steps"] = int(sums["skipped"])
        self.sums, self._seconds = None, 0.0
        return record


def _demand_finite(dispatch: _Dispatch, metrics: dict, finite: bool) -> None:
    since = dispatch.step - dispatch.steps
    if metrics["first_nonfinite_step"] != executors.NEVER:
        step = int(metrics["first_nonfinite_step"])
        raise Diverged(f"the training loss{_of_members(metrics)} is", step, since)
    if not finite:
        raise Diverged("gradients or parameters are", dispatch.step, since)


def fit(
    state: TrainState,
    plan: Plan,
    *,
    advance: Callable[[TrainState, int], tuple[TrainState, dict]],
    healthy: Callable[[TrainState], Any],
    evaluate: Callable[[TrainState], dict] | None,
    copy: Callable[[TrainState], Any],
    save: Callable[[int, Any, dict | None], None],
    write: Callable[[dict], None],
    progress: Callable[[int, dict], None],
    interrupted: Callable[[], bool],
    pace: Pace,
    judge: Callable[[], Verdict] | None = None,
    agree: Callable[[bool, int], tuple[bool, int]] = lambda stop, steps: (stop, steps),
) -> TrainState:
    """Trains from the state's step to the plan's end.

    While the device works on one dispatch the results of the one before are fetched and saved, so
    that it need not wait for Python but at an evaluation that may end the run. (Where the backend,
    or another process, holds up the thread that dispatches, it waits all the same.) What a kill
    costs is therefore all since the last checkpoint, and one dispatch.

    Args:
      state: where to start; its buffers are donated.
      plan: when to log, evaluate, save and stop.
      advance: runs some steps in one dispatch; returns sums as `executors.resident` does.
      healthy: whether a state is finite; asked after every dispatch.
      evaluate: sums over the validation split, {'validation': ..., and others}; None where there
        is none.
      copy: keeps what of a state is saved; it need not wait for the device.
      save: is told (step, copies, validation records of that step, by split), once the state is
        known to be finite; starts to save a checkpoint.
      write: takes a finished record of metrics: {'step', 'split', 'loss', 'accuracy', ...}.
      progress: is told (step, metrics) after every dispatch.
      interrupted: asked between dispatches; True ends the loop after a checkpoint.
      pace: how many steps to dispatch at once.
      judge: asked at the start and after each evaluation; may end the loop. A state that is the
        best so far, or the last, is saved. None: nothing ends it early, nothing waits for it.
      agree: makes (stop, steps) of this process those of all: they must dispatch alike.

    Returns:
      The last state.

    Raises:
      Diverged: a loss, a gradient or a parameter was not finite, or all steps between two log
        points were skipped for that; nothing was saved since.
    """
    step = int(state.step)
    window = _Window()
    last = time.perf_counter()

    def finish(dispatch: _Dispatch) -> dict | None:
        """Waits for a dispatch and tells of it; returns the validation records, if any."""
        nonlocal last
        metrics, finite = jax.device_get((dispatch.metrics, dispatch.finite))
        now = time.perf_counter()
        seconds, last = now - last, now
        pace.update(dispatch.steps, seconds)
        _demand_finite(dispatch, metrics, finite)
        window.add(metrics, seconds)
        shown = mean(metrics)
        shown["examples_per_second"] = int(metrics["count"]) / seconds
        if plan.logs_at(dispatch.step):
            write(window.close(dispatch))
        records = None
        if dispatch.evaluated is not None:
            found = jax.device_get(dispatch.evaluated)
            last = time.perf_counter()
            records = {
                split: {"step": dispatch.step, "split": split, **mean(sums)}
                for split, sums in found.items()
            }
            for split, record in records.items():
                write(record)
                shown[f"{split}_accuracy"] = record["accuracy"]
            for split, record in records.items():
                if not math.isfinite(record["loss"]):
                    what = f"the {split} loss{_of_members(found[split])} is"
                    raise Diverged(what, dispatch.step, dispatch.step)
        progress(dispatch.step, shown)
        return records

    def settle(dispatch: _Dispatch) -> bool:
        """Waits for a dispatch, and saves what it led to; returns whether that ends the loop."""
        nonlocal saved
        records = finish(dispatch)  # first: a state that diverged must not be saved
        new_best, enough = judge() if judge and records else (False, False)
        if enough and window.sums:
            write(window.close(dispatch))
        copies = dispatch.copies
        if copies is None and (new_best or enough):
            copies = copy(state)  # still that of the dispatch
        if copies is not None:
            save(dispatch.step, copies, records)
            saved = dispatch.step
        return enough

    previous = None
    saved = step
    enough = judge is not None and judge().enough
    while step < plan.total_steps and not enough:
        stop, steps = agree(interrupted(), pace.steps)
        if stop:
            break
        steps = min(plan.next_stop(step) - step, steps)
        try:
            state, metrics = advance(state, steps)
            step += steps
            finite = healthy(state)
            evaluated = evaluate(state) if evaluate and plan.evaluates_at(step) else None
        except Exception:  # of a damaged image, say: what was there before is not lost with it
            if previous and jax.process_count() == 1:  # the others may be in no such trouble
                settle(previous)
            raise
        if previous:
            settle(previous)
        copies = copy(state) if plan.saves_at(step) else None  # may wait for it
        previous = _Dispatch(step, steps, metrics, finite, evaluated, copies)
        if judge and evaluated:  # it decides whether there is a next one
            enough = settle(previous)
            previous = None
            last = time.perf_counter()
    if previous:
        settle(previous)
    if step < plan.total_steps and saved != step:
        save(step, copy(state), None)
    return state


def mean(sums: dict) -> dict[str, float]:
    """Sums over examples -> {'loss', 'accuracy'} per example; NaN where there was none.

    Of several members also 'members', {'loss': [...], 'accuracy': [...]}.
    """
    count = int(sums["count"]) or math.nan
    found = {"loss": float(sums["loss"]) / count, "accuracy": int(sums["correct"]) / count}
    if "member_count" in sums:
        losses, correct, counts = (sums[f"member_{name}"] for name in ("loss", "correct", "count"))
        counts = np.where(counts, counts, np.nan)
        found["members"] = {
            "loss": (losses / counts).tolist(),
            "accuracy": (correct / counts).tolist(),
        }
    return found


def _of_members(sums: dict) -> str:
    """' of member 2', counted from 0, where it is those whose loss is not finite; '' where one."""
    bad = np.flatnonzero(~np.isfinite(sums.get("member_loss", ()))).tolist()
    if not bad:
        return ""
    return f" of member{'s' * (len(bad) > 1)} {', '.join(map(str, bad))}"
