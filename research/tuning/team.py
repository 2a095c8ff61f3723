"""The workers of a search: who they are, and who of them is lost."""

import itertools
import json
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from research.errors import UserError


class Lost(Exception):
    """A worker that is no more; says why."""


class Remote(Protocol):
    """A `Worker` that is somewhere else."""

    def send(self, text: str) -> Any:
        """Asks for a call, and does not wait; returns what `answer` wants."""

    def answer(self, ticket: Any) -> str:
        """Wait for the call's answer.

        Raises:
          Lost: there will be none.
        """


class Team:
    """The workers that there still are.

    Args:
      remotes: all of them.
      warn: is told of each that is lost, in a line.
    """

    def __init__(self, remotes: Sequence[Remote], warn: Callable[[str], None]):
        self.remotes, self._warn = list(remotes), warn
        self.names = {remote: f"worker {number}" for number, remote in enumerate(remotes)}
        self.programs = itertools.count()

    def ask_all(self, *call: Any) -> dict[Remote, Any]:
        """Return the answers of all."""
        return self.ask({remote: call for remote in self.remotes})

    def ask(self, calls: dict[Remote, Sequence]) -> dict[Remote, Any]:
        """Answers of those that were not lost meanwhile.

        Raises:
          UserError: a worker refused the call, or no worker is left.
        """
        tickets = {remote: remote.send(json.dumps(call)) for remote, call in calls.items()}
        answers = {}
        for remote, ticket in tickets.items():
            try:
                answers[remote] = json.loads(remote.answer(ticket))
            except Lost as lost:
                self.remotes.remove(remote)
                told = f"{self.names[remote]} is lost ({lost})"
                if not self.remotes:
                    raise UserError(
                        f"no worker is left; the same command goes on with new ones: {told}"
                    ) from None
                self._warn(f"{told}: the others take its trials")
        for answer in answers.values():
            if "refused" in answer:
                raise UserError(answer["refused"])
            if "failed" in answer:
                raise RuntimeError(f"a worker failed:\n{answer['failed']}")
        return {remote: answer["done"] for remote, answer in answers.items()}
