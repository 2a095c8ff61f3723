"""Decide which checkpoints of a run are kept, and which is the best."""

from __future__ import annotations

from collections.abc import Sequence

from research.training.early_stopping import Objective


class Retention:
    """Remember the scores of checkpoints, and decide which steps to keep.

    Args:
      snapshots: steps to keep besides the newest two, the newest two that were planned, and the
        best.
    """

    def __init__(self, snapshots: Sequence[int]):
        self._snapshots = frozenset(snapshots)
        self._scores: dict[int, float] = {}
        self.planned: set[int] = set()

    def note(
        self, step: int, planned: bool, objective: Objective, metrics: dict[str, float]
    ) -> None:
        """Note that a checkpoint of this step exists, or will soon."""
        if metrics:
            record = {name.removeprefix("validation_"): value for name, value in metrics.items()}
            self._scores[step] = objective.score(record)
        if planned:
            self.planned.add(step)

    def forget(self, step: int) -> None:
        """Note that this step has no checkpoint."""
        self._scores.pop(step, None)
        self.planned.discard(step)

    def best(self, steps: list[int]) -> int | None:
        """Return the step with the best score (of equals the latest); None if none has a score."""
        return next(iter(self.best_first(steps)), None)

    def best_first(self, steps: list[int]) -> list[int]:
        """Return the steps that have a score, the best one first."""
        scored = [step for step in steps if step in self._scores]
        return sorted(scored, key=lambda step: (self._scores[step], step), reverse=True)

    def kept(self, steps: list[int]) -> set[int]:
        """Return which of the steps, oldest first, are kept."""
        planned = [step for step in steps if step in self.planned]
        return {*steps[-2:], *planned[-2:], self.best(steps)} | self._snapshots
