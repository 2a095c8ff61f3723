"""When a run logs, evaluates, saves and ends."""

import dataclasses
from collections.abc import Sequence


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
