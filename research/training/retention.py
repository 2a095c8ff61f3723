"""Which checkpoints of a run are kept, and which of them is the best."""

from __future__ import annotations

from collections.abc import Sequence

from research.training.early_stopping import Objective


class Retention:
    """Which steps to keep, with the scores in mind.

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
        """Note that a checkpoint of this step is there, or about to be."""
        if metrics:
            record = {name.removeprefix("validation_"): value for name, value in metrics.items()}
            self._scores[step] = objective.score(record)
        if planned:
            self.planned.add(step)

    def forget(self, step: int) -> None:
        """There is none of this step after all, or no longer."""
        self._scores.pop(step, None)
        self.planned.discard(step)

    def best(self, steps: list[int]) -> int | None:
        """The later one of equals; None where no step has a score."""
        return next(iter(self.best_first(steps)), None)

    def best_first(self, steps: list[int]) -> list[int]:
        """Those of the steps that have a score."""
        scored = [step for step in steps if step in self._scores]
        return sorted(scored, key=lambda step: (self._scores[step], step), reverse=True)

    def kept(self, steps: list[int]) -> set[int]:
        """Which of the steps, oldest first, are kept."""
        planned = [step for step in steps if step in self.planned]
        return {*steps[-2:], *planned[-2:], self.best(steps)} | self._snapshots
