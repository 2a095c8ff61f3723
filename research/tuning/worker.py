"""A worker process: it holds the populations of a search and carries out the driver's calls.

Calls and answers are JSON text on every connection; states are sent as bytes in base64.
"""

import base64
import dataclasses
import json
import os
import socket
import traceback
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research import config as configuration
from research import platform
from research.errors import UserError
from research.tuning.population import factory
from research.tuning.trials import TrialState


class Worker:
    """A worker with all devices that its process sees.

    Args:
      populate: makes a population; None: `Population`.
    """

    def __init__(self, populate=None):
        platform.enable_compilation_cache()
        self._populate = populate or factory()
        self._opened: Any = None  # the last population opened, until it is compiled
        self._populations: dict[int, Any] = {}
        calls = (_meet, self._open, self._estimate, self._compile, self._train)
        self._calls = {call.__name__: call for call in calls}

    def call(self, text: str) -> str:
        """Carry out a call.

        Args:
          text: JSON of [name, argument, ...].

        Returns:
          JSON of {'done': answer}, {'refused': line for the user} or {'failed': traceback}.
        """
        name, *arguments = json.loads(text)
        try:
            return json.dumps({"done": self._calls[f"_{name}"](*arguments)})
        except UserError as error:
            return json.dumps({"refused": str(error)})
        except (
            Exception
        ):  # the driver reports it; without an answer it would look like a lost worker
            return json.dumps({"failed": traceback.format_exc()})

    def _open(self, config: str, settings: dict) -> dict:
        config = configuration.from_json(config, "the driver's config", trusted=True)
        opened = self._opened = self._populate(config, 1, **settings)
        return {
            "lanes_of_slot": opened.lanes_of_slot,
            "fitting": opened.fitting(),
            "parameters": opened.parameters(),
            "description": opened.description(),
            "fingerprint": opened.fingerprint(),
            "warnings": opened.warnings,
        }

    def _estimate(self, slots: int) -> dict:
        self._opened.slots = slots
        return dataclasses.asdict(self._opened.estimate())

    def _compile(self, number: int, slots: int, chunk: int | None, turns: float) -> dict:
        population = self._populations[number] = self._opened
        population.slots = slots
        population.compile(chunk, turns)
        return {
            "chunk": population.chunk,
            "memory": population.memory(),
            "seconds": population.seconds(),
        }

    def _train(self, number: int, work: list) -> list:
        """Carry out the commands of slots; slots that advance do so together.

        Args:
          number: of the population.
          work: [slot, [[command, argument, ...], ...]] for different slots.

        Returns:
          The result of the last command of each slot.
        """
        population = self._populations[number]
        if (slots := 1 + max(slot for slot, _ in work)) > population.slots:
            population.grow(slots)
        left = {slot: commands[::-1] for slot, commands in work}
        results: dict[int, Any] = {}
        while any(left.values()):
            for slot, commands in left.items():
                while commands and commands[-1][0] != "advance":
                    results[slot] = _carried_out(population, slot, *commands.pop())
            going = [slot for slot, commands in left.items() if commands and commands.pop()]
            if going:
                reports = population.advance(going)
                results |= {slot: dataclasses.asdict(reports[slot]) for slot in going}
        return [results[slot] for slot, _ in work]


def _meet() -> str:
    devices = jax.local_devices()
    several = "s" * (len(devices) > 1)
    return (
        f"{socket.gethostname()}, process {os.getpid()}, {len(devices)} device{several} "
        f"({devices[0].platform})"
    )


def _carried_out(population, slot: int, command: str, *arguments) -> dict | None:
    if command == "start":
        population.start(slot, *arguments)
    elif command == "copy":
        population.copy(slot, slot, *arguments)
    elif command == "unpark":
        population.unpark(slot, _decoded(*arguments))
    elif command == "state":
        parked = population.park(slot)
        population.unpark(slot, parked)
        return _encoded(parked)
    return None


def _encoded(state: TrialState) -> dict:
    lanes = [
        {dtype: base64.b64encode(vector.tobytes()).decode() for dtype, vector in lane.items()}
        for lane in state.lanes
    ]
    return {**dataclasses.asdict(dataclasses.replace(state, lanes=None)), "lanes": lanes}


def _decoded(fields: dict) -> TrialState:
    lanes = [
        {dtype: np.frombuffer(base64.b64decode(text), jnp.dtype(dtype))
         for dtype, text in lane.items()}
        for lane in fields["lanes"]
    ]  # fmt: skip
    return TrialState(**{**fields, "lanes": lanes})
