"""A worker: it holds populations somewhere else, one for each program, and does what it is told.

Calls and answers are JSON text, whatever carries them; states travel as the bytes of their vectors.
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
from research.tuning.population import of_one_search
from research.tuning.slots import Occupant, Parked


class Worker:
    """Drives all devices that its process sees.

    Args:
      populate: makes a population; None: of real trainings.
    """

    def __init__(self, populate=None):
        platform.enable_compilation_cache()
        self._populate = populate or of_one_search()
        self._opened: Any = None  # to be compiled, or else forgotten
        self._populations: dict[int, Any] = {}
        calls = (_meet, self._open, self._estimate, self._compile, self._train)
        self._calls = {call.__name__: call for call in calls}

    def call(self, text: str) -> str:
        """[name of a call, argument, ...] -> {'done': answer}, or why it could not be done."""
        name, *arguments = json.loads(text)
        try:
            return json.dumps({"done": self._calls[f"_{name}"](*arguments)})
        except UserError as error:
            return json.dumps({"refused": str(error)})
        except Exception:  # is the driver's to tell; without an answer this would look like a loss
            return json.dumps({"failed": traceback.format_exc()})

    def _open(self, config: str, settings: dict) -> dict:
        config = configuration.from_json(config, "the driver's config", trusted=True)
        population = self._opened = self._populate(config, 1, **settings)
        return {
            "lanes_of_slot": population.lanes_of_slot,
            "fitting": population.fitting(),
            "parameters": population.parameters(),
            "description": population.description(),
            "fingerprint": population.fingerprint(),
            "warnings": population.warnings,
        }

    def _estimate(self, slots: int) -> dict:
        self._opened.slots = slots
        return dataclasses.asdict(self._opened.estimate())

    def _compile(self, program: int, slots: int, chunk: int | None, turns: float) -> dict:
        population = self._populations[program] = self._opened
        population.slots = slots
        population.compile(chunk, turns)
        return {
            "chunk": population.chunk,
            "memory": population.memory(),
            "seconds": population.seconds(),
        }

    def _train(self, program: int, work: list) -> list:
        """Follows the commands of each slot, in step where they advance; what the last ones gave.

        Args:
          program: number.
          work: of [slot, [[command, argument, ...], ...]], the slots all different.
        """
        population = self._populations[program]
        if (slots := 1 + max(slot for slot, _ in work)) > population.slots:
            population.grow(slots)
        left = {slot: commands[::-1] for slot, commands in work}
        results: dict[int, Any] = {}
        while any(left.values()):
            for slot, commands in left.items():
                while commands and commands[-1][0] != "advance":
                    results[slot] = _followed(population, slot, *commands.pop())
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


def _followed(population, slot: int, command: str, *arguments) -> dict | None:
    if command == "start":
        population.start(slot, *arguments)
    elif command == "copy":  # with other numbers
        population.copy(slot, slot, *arguments)
    elif command == "unpark":
        population.unpark(slot, _parked(*arguments))
    elif command == "state":
        parked = population.park(slot)
        population.unpark(slot, parked)
        return _told(parked)
    return None


def _told(parked: Parked) -> dict:
    states = [
        {name: base64.b64encode(vector.tobytes()).decode() for name, vector in state.items()}
        for state in parked.states
    ]
    return {"occupant": dataclasses.asdict(parked.occupant), "states": states}


def _parked(told: dict) -> Parked:
    states = [
        {name: np.frombuffer(base64.b64decode(of), jnp.dtype(name)) for name, of in state.items()}
        for state in told["states"]
    ]
    return Parked(Occupant(**told["occupant"]), states)
