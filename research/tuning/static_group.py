"""A group of trials with the same static choices: the slots of their population, and their queue.

The ledger may hold scores of segments whose training state was lost. A state is trained again, from
its initial state and through its ancestors' values, only when a further segment needs it.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from research.tuning.reports import Report
from research.tuning.trials import Trial


@dataclasses.dataclass(eq=False)
class ActiveTrial:
    """A trial that has not ended: its group, its slot, and the origin of its state."""

    trial: Trial
    group: "StaticGroup"
    # (segment, values): the values that train from this segment on. A copy starts with the lineage
    # of its parent.
    lineage: tuple[tuple[int, dict], ...]
    slot: int | None = None
    trained: int | None = None  # number of segments behind its state; None: there is no state
    parked: Any = None  # its state, while it waits without a slot

    @property
    def segment(self) -> int:
        """Return the last segment whose score is known."""
        return self.trial.segment or self.lineage[-1][0]


class StaticGroup:
    """Trials with the same static choices: they share a population, and wait for its slots.

    Args:
      number: of the group, in order of appearance.
      values: the values of its first trial.
      traced: maps values to the traced ones: `Space.traced`.
      populate: makes the population: see `Study`.
    """

    def __init__(
        self,
        number: int,
        values: dict[str, Any],
        traced: Callable[[dict], dict],
        populate: Callable[[dict, dict | None], tuple[Any, dict]],
    ):
        self.number, self.values = number, values
        self.slots: list[ActiveTrial | None] = []
        self.ready: list[ActiveTrial] = []
        self.facts: dict | None = None  # about its population, once they are decided
        self._traced, self._populate = traced, populate

    @property
    def running(self) -> list[ActiveTrial]:
        """Return the trials in slots."""
        return [active for active in self.slots if active]

    @property
    def demand(self) -> int:
        """Return how many slots could be busy; all that wait, before the slots are counted."""
        wanted = len(self.running) + len(self.ready)
        return min(wanted, len(self.slots)) if self.facts else wanted

    @functools.cached_property
    def population(self) -> Any:
        """Make the population at the first training."""
        population, _ = self._populate(self.values, self.facts)
        return population

    def measured(self) -> dict:
        """Make the population and return the facts that were measured about it."""
        self.population, facts = self._populate(self.values, None)
        return facts

    def open_slots(self, facts: dict) -> None:
        """Open the slots of the population, and hold it to these facts from now on."""
        self.facts = facts
        self.slots = [None] * facts["slots"]

    def fill(self) -> None:
        """Give the free slots to trials that are ready."""
        free = self.slots.count(None)
        # Trials that have begun go first.
        self.ready.sort(key=lambda active: (active.segment == 0, active.trial.number))
        for active in self.ready[:free]:
            active.slot = self.slots.index(None)
            self.slots[active.slot] = active
        del self.ready[:free]

    def train(self, trials: Sequence[ActiveTrial]) -> dict[ActiveTrial, Report]:
        """Train one more segment.

        First retrain segments whose scores are in the ledger but whose state was lost.
        """
        for active in trials:
            if active.parked is not None:
                self.population.unpark(active.slot, active.parked)
                active.parked = None
            elif active.trained is None:
                _, values = active.lineage[0]
                self.population.start(active.slot, self._traced(values), active.trial.segments)
                active.trained = 0
        while behind := [active for active in trials if active.trained < active.segment]:
            self._one_segment(behind)
            for active in behind:
                for segment, values in active.lineage[1:]:
                    if segment == active.trained:
                        self.population.copy(active.slot, active.slot, self._traced(values))
        return self._one_segment(trials)

    def _one_segment(self, trials: Sequence[ActiveTrial]) -> dict[ActiveTrial, Report]:
        reports = self.population.advance([active.slot for active in trials])
        for active in trials:
            active.trained += 1
        return {active: reports[active.slot] for active in trials}

    def copy(self, parent: ActiveTrial, copy: ActiveTrial, slot: int) -> None:
        """Put a copy of a parent into a slot, with the parent's state if it exists."""
        copy.slot, self.slots[slot] = slot, copy
        if parent.trained == parent.segment:
            self.population.copy(slot, parent.slot, self._traced(copy.trial.values))
            copy.trained = parent.segment

    def park(self, active: ActiveTrial) -> None:
        """Take a trial out of its slot to wait, with its state if it exists."""
        if active.trained == active.segment:
            active.parked = self.population.park(active.slot)
        else:
            active.trained = None
        self.leave(active)

    def leave(self, active: ActiveTrial) -> None:
        """Free the slot of a trial."""
        self.slots[active.slot] = None
        active.slot = None
