"""Programs of a search: trials in the slots of a population, or waiting for one, and their states.

Scores may be known from a ledger where no lane has the state that they are of. A state is trained,
from the first one on and through what a trial was copied from, only where a piece needs it.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

from research.tuning.slots import Report
from research.tuning.trials import Trial


@dataclasses.dataclass(eq=False)
class Run:
    """A trial, where it is trained, and how its state comes about."""

    trial: Trial
    program: "Program"
    # From which piece on which values: the trial's own, after those of the trials it descends from.
    lineage: tuple[tuple[int, dict], ...]
    slot: int | None = None
    trained: int | None = None  # pieces that its state has behind it; None: there is no state
    parked: Any = None  # its state, while it has no slot

    @property
    def piece(self) -> int:
        """The last whose scores are known."""
        return self.trial.piece or self.lineage[-1][0]


class Program:
    """Trials with the same static values: they share a population, and wait for its slots.

    Args:
      number: in the order in which programs came up.
      values: the first trial's.
      traced: values -> those that a population is told, as `Space.traced`.
      populate: as `Study` has it.
    """

    def __init__(
        self,
        number: int,
        values: dict[str, Any],
        traced: Callable[[dict], dict],
        populate: Callable[[dict, dict | None], tuple[Any, dict]],
    ):
        self.number, self.values = number, values
        self.slots: list[Run | None] = []
        self.ready: list[Run] = []
        self.facts: dict | None = None  # about its population, once that is decided
        self._traced, self._populate = traced, populate

    @property
    def running(self) -> list[Run]:
        """Those in slots."""
        return [run for run in self.slots if run]

    @property
    def demand(self) -> int:
        """How many of its slots could be busy; before they are counted, all that wait."""
        wanted = len(self.running) + len(self.ready)
        return min(wanted, len(self.slots)) if self.facts else wanted

    @functools.cached_property
    def population(self) -> Any:
        """Made where something has to be trained."""
        population, _ = self._populate(self.values, self.facts)
        return population

    def measured(self) -> dict:
        """Return the facts about its population, which is made for that."""
        self.population, facts = self._populate(self.values, None)
        return facts

    def open_slots(self, facts: dict) -> None:
        """As many as its population has, of which these are the facts from now on."""
        self.facts = facts
        self.slots = [None] * facts["slots"]

    def fill(self) -> None:
        """Give its free slots to those that are ready."""
        free = self.slots.count(None)
        # Those that have come far go on before others begin.
        self.ready.sort(key=lambda run: (run.piece == 0, run.trial.number))
        for run in self.ready[:free]:
            run.slot = self.slots.index(None)
            self.slots[run.slot] = run
        del self.ready[:free]

    def train(self, runs: Sequence[Run]) -> dict[Run, Report]:
        """Their next piece; before it what is known of them and no lane has."""
        for run in runs:
            if run.parked is not None:
                self.population.unpark(run.slot, run.parked)
                run.parked = None
            elif run.trained is None:
                self.population.start(run.slot, self._traced(run.lineage[0][1]), run.trial.pieces)
                run.trained = 0
        while behind := [run for run in runs if run.trained < run.piece]:
            self._one_piece(behind)
            for run in behind:
                for values in [new for piece, new in run.lineage[1:] if piece == run.trained]:
                    self.population.copy(run.slot, run.slot, self._traced(values))
        return self._one_piece(runs)

    def _one_piece(self, runs: Sequence[Run]) -> dict[Run, Report]:
        reports = self.population.advance([run.slot for run in runs])
        for run in runs:
            run.trained += 1
        return {run: reports[run.slot] for run in runs}

    def copy(self, parent: Run, run: Run, slot: int) -> None:
        """Put a run into a slot, to go on from its parent's state, if a lane has that."""
        run.slot, self.slots[slot] = slot, run
        if parent.trained == parent.piece:
            self.population.copy(slot, parent.slot, self._traced(run.trial.values))
            run.trained = parent.piece

    def park(self, run: Run) -> None:
        """Take a run out of its slot, to wait; with its state, if a lane has that."""
        if run.trained == run.piece:
            run.parked = self.population.park(run.slot)
        else:
            run.trained = None
        self.leave(run)

    def leave(self, run: Run) -> None:
        """Frees its slot."""
        self.slots[run.slot] = None
        run.slot = None
