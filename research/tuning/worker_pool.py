"""The workers of a search, and the calls that the driver sends to them.

Calls and answers are JSON text; a `Connection` carries them.
"""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from research.errors import UserError


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
