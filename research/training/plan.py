"""Plan the steps at which a run logs, evaluates, saves and ends."""

import dataclasses
from collections.abc import Sequence


@dataclasses.dataclass(frozen=True)
class Plan:
    """The steps at which something happens: each multiple of an interval, and the last step.

    Whichever of evaluation and checkpoint is more frequent also happens at the steps of the other
    one: the best checkpoint must be one that was evaluated. So making one of them more frequent
    does not add any of the other.

    Intervals are in steps, at least 1, and need not be whole. Multiples are rounded, not the
    interval, so that the fifth multiple of '1 epochs' and the first of '5 epochs' are one step.
    """

    total_steps: int
    log_every: float
    evaluate_every: float
    checkpoint_every: float
    snapshots: Sequence[int] = ()  # steps whose checkpoints are kept to the end

    def next_stop(self, step: int) -> int:
        """Return the first step after this one at which anything happens."""
        intervals = (self.log_every, self.evaluate_every, self.checkpoint_every)
        multiples = (_next_multiple(every, step) for every in intervals)
        snapshots = (snapshot for snapshot in self.snapshots if snapshot > step)
        return min(self.total_steps, *multiples, *snapshots)

    def logs_at(self, step: int) -> bool:
        """Return whether training metrics are logged at a step."""
        return self._due(step, self.log_every)

    def saves_at(self, step: int) -> bool:
        """Return whether a checkpoint is saved at a step."""
        with_evaluation = self.checkpoint_every <= self.evaluate_every
        return self.may_return_to(step) or (
            with_evaluation and self._due(step, self.evaluate_every)
        )

    def may_return_to(self, step: int) -> bool:
        """Return whether a rollback may return to the checkpoint of a step.

        It may not if the step is saved only because of an evaluation. Such a checkpoint may be a
        single step before the next one, and a rollback must go back further.
        """
        return self._due(step, self.checkpoint_every) or step in self.snapshots

    def evaluates_at(self, step: int) -> bool:
        """Return whether the validation split is evaluated at a step."""
        with_checkpoint = self.checkpoint_every >= self.evaluate_every
        return (
            self._due(step, self.evaluate_every)
            or (with_checkpoint and self._due(step, self.checkpoint_every))
            or step in self.snapshots
        )

    def _due(self, step: int, every: float) -> bool:
        return step in (_next_multiple(every, step - 1), self.total_steps)


def _next_multiple(every: float, step: int) -> int:
    """Return the first rounded multiple of an interval after a step."""
    count = int(step / every)
    while round(count * every) <= step:
        count += 1
    return round(count * every)
