"""A population whose slots are spread over remote workers; a study uses it like a local one.

The driver keeps the commands that made each slot's state: a start, or a state from elsewhere, and
the segments since then. If a worker is lost, the others repeat the commands of its slots and get
the same numbers. Only time is lost.
"""

import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ml_collections import ConfigDict

from research import config as configuration
from research.data import identity
from research.errors import UserError
from research.tuning.costs import Estimate
from research.tuning.reports import Report


class WorkerLost(Exception):
    """A worker that will not answer any more; the message is the reason."""


class Connection(Protocol):
    """The way to a `Worker` in another process."""

    def send(self, text: str) -> Any:
        """Send a call without waiting for its answer; return a ticket for `answer`."""

    def answer(self, ticket: Any) -> str:
        """Wait for the answer to a call.

        Raises:
          WorkerLost: there will be none.
        """


class WorkerPool:
    """The workers that are alive.

    Args:
      connections: to all workers.
      warn: receives a line for each worker that is lost.
    """

    def __init__(self, connections: Sequence[Connection], warn: Callable[[str], None]):
        self.workers, self._warn = list(connections), warn
        self.names = {worker: f"worker {number}" for number, worker in enumerate(connections)}
        self.populations = itertools.count()  # numbers for the populations of these workers

    def ask_all(self, *call: Any) -> dict[Connection, Any]:
        """Send the same call to all workers; return their answers."""
        return self.ask({worker: call for worker in self.workers})

    def ask(self, calls: dict[Connection, Sequence]) -> dict[Connection, Any]:
        """Send calls, [name, argument, ...], and wait; return the answers of surviving workers.

        Raises:
          UserError: a worker refused the call, or no worker is left.
          RuntimeError: a call failed; the message has the worker's traceback.
        """
        tickets = {worker: worker.send(json.dumps(call)) for worker, call in calls.items()}
        answers = {}
        for worker, ticket in tickets.items():
            try:
                answers[worker] = json.loads(worker.answer(ticket))
            except WorkerLost as lost:
                self.workers.remove(worker)
                message = f"{self.names[worker]} is lost ({lost})"
                if not self.workers:
                    raise UserError(
                        f"no worker is left; the same command goes on with new ones: {message}"
                    ) from None
                self._warn(f"{message}: the others take its trials")
        for answer in answers.values():
            if "refused" in answer:
                raise UserError(answer["refused"])
            if "failed" in answer:
                raise RuntimeError(f"a worker failed:\n{answer['failed']}")
        return {worker: answer["done"] for worker, answer in answers.items()}


class RemotePopulation:
    """The interface of `Population` that a study uses, with slots on several workers.

    Args:
      pool: the workers; populations of other static groups use the same.
      config: of the population.
      slots: number of slots of all workers together.
      settings: other arguments of `Population`.

    Raises:
      UserError: a worker refuses the config, or workers have different data.
    """

    def __init__(self, pool: WorkerPool, config: ConfigDict, slots: int, **settings: Any):
        self.slots = slots
        self._pool, self._number = pool, next(pool.populations)
        opened = pool.ask_all("open", configuration.to_json(config), settings)
        (self._opened, *_) = opened.values()
        for worker, answer in opened.items():
            if differences := identity.differences(self.fingerprint(), answer["fingerprint"]):
                raise UserError(
                    f"{pool.names[worker]} has other data than {pool.names[next(iter(opened))]}: "
                    f"{'; '.join(differences)} (allowed: the same for all workers)"
                )
        self._fitting = min(answer["fitting"] for answer in opened.values()) * len(opened)
        self.lanes_of_slot = self._opened["lanes_of_slot"]
        self.warnings = self._opened["warnings"]
        # For each slot: its worker and its number there, the commands that made its state, and how
        # many of them this worker has carried out.
        self._places: dict[int, tuple[Connection, int]] = {}
        self._commands: dict[int, list[list]] = {}
        self._carried_out: dict[int, int] = {}
        self._slots_of: Counter[Connection] = Counter()  # number of slots given to each worker

    def description(self) -> list[str]:
        """Return the lines about the data that every start prints."""
        return self._opened["description"]

    def fingerprint(self) -> dict:
        """Return the fingerprint of the data, the same on all workers."""
        return self._opened["fingerprint"]

    def fitting(self) -> int:
        """Estimate how many slots fit into the memory of all workers."""
        return self._fitting

    def parameters(self) -> int:
        """Return the number of parameters of a network."""
        return self._opened["parameters"]

    def estimate(self) -> Estimate:
        """Estimate `memory` and `seconds` before compilation."""
        slots = -(-self.slots // len(self._pool.workers))  # of one worker
        answers = self._pool.ask_all("estimate", slots).values()
        estimates = [Estimate(**answer) for answer in answers]
        return Estimate(
            sum(estimate.memory for estimate in estimates),
            max(estimate.seconds for estimate in estimates),
        )

    def compile(self, chunk: int | None = None, turns: float = 1) -> float:
        """Compile on all workers; the first one measures the chunk size if it is not given."""
        started = time.perf_counter()
        for slot in range(self.slots):
            self._place(slot)
        answers = {}
        while not answers:
            answers = self._compiled(self._pool.workers[:1], chunk, turns)
        self.chunk = next(iter(answers.values()))["chunk"]
        answers |= self._compiled(
            [worker for worker in self._pool.workers if worker not in answers], self.chunk, turns
        )
        self._memory = sum(answer["memory"] for answer in answers.values())
        self._seconds = max(answer["seconds"] for answer in answers.values())
        return time.perf_counter() - started

    def _compiled(
        self, workers: list[Connection], chunk: int | None, turns: float
    ) -> dict[Connection, Any]:
        # A worker without a slot compiles too: it may take over slots of a lost one.
        return self._pool.ask(
            {
                worker: ("compile", self._number, max(1, self._slots_of[worker]), chunk, turns)
                for worker in workers
            }
        )

    def seconds(self) -> float:
        """Return the time of a segment of all slots, extrapolated from a few steps."""
        return self._seconds

    def memory(self) -> int:
        """Return the bytes that all workers hold."""
        return self._memory

    def start(self, slot: int, values: dict[str, float], segments: int) -> None:
        """Put a new trial into a slot, in its initial state."""
        self._begin(slot, ["start", values, segments])

    def copy(self, slot: int, parent: int, values: dict[str, float]) -> None:
        """Copy the state of a parent's slot into this slot, with other hyper-parameters."""
        if slot != parent:
            self._begin(slot, ["unpark", self.park(parent)])
        self._commands[slot].append(["copy", values])

    def park(self, slot: int) -> dict:
        """Fetch the state of a trial to the driver."""
        return self._results([slot], [["state"]])[slot]

    def unpark(self, slot: int, parked: dict) -> None:
        """Put a parked trial into a slot, to continue training."""
        self._begin(slot, ["unpark", parked])

    def advance(self, slots: Sequence[int]) -> dict[int, Report]:
        """Train these slots for one segment, and wait for all of them."""
        for slot in slots:
            self._commands[slot].append(["advance"])
        return {slot: Report(**answer) for slot, answer in self._results(slots).items()}

    def _begin(self, slot: int, command: list) -> None:
        self._commands[slot], self._carried_out[slot] = [command], 0

    def _results(self, slots: Sequence[int], then: Sequence[list] = ()) -> dict[int, Any]:
        """Carry out the open commands of slots; return the result of the last one of each.

        If a worker is lost, its slots move to other workers, which start from the first command.
        """
        results: dict[int, Any] = {}
        while left := [slot for slot in slots if slot not in results]:
            work: dict[Connection, dict[int, list]] = {}
            for slot in left:
                worker, number = self._place(slot)
                commands = [*self._commands[slot][self._carried_out[slot] :], *then]
                work.setdefault(worker, {})[slot] = [number, commands]
            calls = {
                worker: ("train", self._number, list(own.values())) for worker, own in work.items()
            }
            for worker, answer in self._pool.ask(calls).items():
                results |= zip(work[worker], answer, strict=True)
                self._carried_out |= {slot: len(self._commands[slot]) for slot in work[worker]}
        return {slot: results[slot] for slot in slots}

    def _place(self, slot: int) -> tuple[Connection, int]:
        """Return the worker of a slot and its number there; move it if the worker is lost."""
        if slot not in self._places or self._places[slot][0] not in self._pool.workers:
            worker = min(self._pool.workers, key=self._slots_of.__getitem__)
            self._places[slot] = worker, self._slots_of[worker]
            self._slots_of[worker] += 1
            self._carried_out[slot] = 0
        return self._places[slot]
