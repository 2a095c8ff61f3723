"""A crew: populations of several workers, which look to a study like one.

A slot's state is made by commands: from a first state, or one that came from elsewhere. The driver
keeps them until the slot is given to another trial; so what a lost worker had in its lanes is
trained again on the others, to the same numbers, and nobody notices but the clock.
"""

import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from research import config as configuration
from research.data import identity
from research.errors import UserError
from research.tuning.costs import Estimate
from research.tuning.slots import Report
from research.tuning.team import Remote, Team


class Crew:
    """Has what a `Population` has for a study; its slots are dealt out to the workers.

    Args:
      team: the workers; other programs have crews of the same.
      config: of the population.
      slots: of all workers together.
      settings: other arguments of `Population`.
    """

    def __init__(self, team: Team, config: ConfigDict, slots: int, **settings: Any):
        self.slots = slots
        self._team, self._number = team, next(team.programs)
        opened = team.ask_all("open", configuration.to_json(config), settings)
        (self._opened, *_) = opened.values()
        for remote, other in opened.items():
            if told := identity.differences(self.fingerprint(), other["fingerprint"]):
                raise UserError(
                    f"{team.names[remote]} has other data than {team.names[next(iter(opened))]}: "
                    f"{'; '.join(told)} (allowed: the same for all workers)"
                )
        self._fitting = min(of["fitting"] for of in opened.values()) * len(opened)
        self.lanes_of_slot = self._opened["lanes_of_slot"]
        self.warnings = self._opened["warnings"]
        self._places: dict[int, tuple[Remote, int]] = {}  # of slots: a worker, and its own number
        self._taken: Counter[Remote] = Counter()
        self._commands: dict[int, list[list]] = {}  # that made what is in a slot
        self._followed: dict[int, int] = {}  # so many of them, where the slot is now

    def description(self) -> list[str]:
        """Return the lines about the data that every start prints."""
        return self._opened["description"]

    def fingerprint(self) -> dict:
        """Return the fingerprint of the data, which all workers have."""
        return self._opened["fingerprint"]

    def fitting(self) -> int:
        """How many slots fit into the memory of all workers."""
        return self._fitting

    def parameters(self) -> int:
        """How many parameters a network has."""
        return self._opened["parameters"]

    def estimate(self) -> Estimate:
        """Return what `memory` and `seconds` will say, about."""
        each = -(-self.slots // len(self._team.remotes))
        told = [Estimate(**of) for of in self._team.ask_all("estimate", each).values()]
        return Estimate(sum(of.memory for of in told), max(of.seconds for of in told))

    def compile(self, chunk: int | None = None, turns: float = 1) -> float:
        """Compiles on all workers; one of them measures what is best for all, if anything is."""
        started = time.perf_counter()
        for slot in range(self.slots):
            self._place(slot)
        answers = {}
        while not answers:
            answers = self._compiled(self._team.remotes[:1], chunk, turns)
        self.chunk = next(iter(answers.values()))["chunk"]
        answers |= self._compiled(
            [remote for remote in self._team.remotes if remote not in answers], self.chunk, turns
        )
        self._memory = sum(of["memory"] for of in answers.values())
        self._seconds = max(of["seconds"] for of in answers.values())
        return time.perf_counter() - started

    def _compiled(
        self, remotes: list[Remote], chunk: int | None, turns: float
    ) -> dict[Remote, Any]:
        # One that has no slot yet may be given those of another.
        return self._team.ask(
            {
                remote: ("compile", self._number, max(1, self._taken[remote]), chunk, turns)
                for remote in remotes
            }
        )

    def seconds(self) -> float:
        """How long a piece of all slots takes, as far as a few steps tell."""
        return self._seconds

    def memory(self) -> int:
        """Bytes of what all workers hold."""
        return self._memory

    def start(self, slot: int, values: dict[str, float], pieces: int) -> None:
        """Put a trial into a slot, in its first state."""
        self._begin(slot, ["start", values, pieces])

    def copy(self, slot: int, parent: int, values: dict[str, float]) -> None:
        """Put the state of another slot into this one, with other numbers."""
        if slot != parent:
            self._begin(slot, ["unpark", self._state(parent)])
        self._commands[slot].append(["copy", values])

    def park(self, slot: int) -> dict:
        """Take a trial out of its slot, to the driver."""
        return self._state(slot)

    def unpark(self, slot: int, parked: dict) -> None:
        """Put a parked trial into a slot, to train on."""
        self._begin(slot, ["unpark", parked])

    def advance(self, slots: Sequence[int]) -> dict[int, Report]:
        """Trains these slots for one piece, and waits for all of them."""
        for slot in slots:
            self._commands[slot].append(["advance"])
        return {slot: Report(**told) for slot, told in self._results(slots).items()}

    def _begin(self, slot: int, command: list) -> None:
        self._commands[slot], self._followed[slot] = [command], 0

    def _state(self, slot: int) -> dict:
        return self._results([slot], [["state"]])[slot]

    def _results(self, slots: Sequence[int], then: Sequence[list] = ()) -> dict[int, Any]:
        """Return the answers of these slots' last commands; replace workers that are lost."""
        results: dict[int, Any] = {}
        while left := [slot for slot in slots if slot not in results]:
            work: dict[Remote, dict[int, list]] = {}
            for slot in left:
                remote, number = self._place(slot)
                commands = [*self._commands[slot][self._followed[slot] :], *then]
                work.setdefault(remote, {})[slot] = [number, commands]
            answers = self._team.ask(
                {of: ("train", self._number, list(work[of].values())) for of in work}
            )
            for remote, found in answers.items():
                results |= zip(work[remote], found, strict=True)
                self._followed |= {slot: len(self._commands[slot]) for slot in work[remote]}
        return {slot: results[slot] for slot in slots}

    def _place(self, slot: int) -> tuple[Remote, int]:
        """Where a slot is; if it is nowhere, where the fewest are, and from its first command."""
        if slot not in self._places or self._places[slot][0] not in self._team.remotes:
            remote = min(self._team.remotes, key=self._taken.__getitem__)
            self._places[slot] = remote, self._taken[remote]
            self._taken[remote] += 1
            self._followed[slot] = 0
        return self._places[slot]
