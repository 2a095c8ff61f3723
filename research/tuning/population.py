"""A population: trials of one cohort, trained side by side in lanes of one compiled program.

A *trial* is one setting of the traced hyper-parameters; it stands in a *slot* of m lanes, one for
each fold, repeat and seed. A sampler and a scheduler decide which numbers stand in which slot; here
is only how slots are trained. After `compile` nothing is compiled again.
"""

import bisect
import dataclasses
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from research import platform
from research.names import resolve
from research.training import batch_statistics, metrics, setup
from research.training.packing import Packing
from research.tuning import cohort, lane, lane_modes
from research.tuning import folds as cross_validation
from research.tuning.chunks import LANES, Chunks, taken
from research.tuning.cohort import bytes_of
from research.tuning.costs import Estimate
from research.tuning.slots import Occupant, Parked, Report

# From so much training on, in times of the compilation so far, other sizes of a chunk are compiled
# too: each takes as long again, and has saved a quarter on CPU at best, on accelerators nearly all.
_WORTH_COMPILING = 4


class Population:
    """Slots of lanes that train trials of one cohort."""

    def __init__(
        self,
        config: ConfigDict,
        slots: int,
        *,
        pieces: int = 10,
        folds: int = 1,
        repeats: int = 1,
        seeds: int = 1,
        stratified: bool = True,
        mode: str = "auto",
        earlier: cross_validation.Folds | None = None,
    ):
        """Load the data; compile nothing.

        Args:
          config: of the cohort, as `Space.program` makes it: static choices, numbers that no trial
            changes, and those that trials set, switched on.
          slots: trials side by side.
          pieces: into so many the training of `config.duration` is cut.
          folds: of cross-validation; 1: the validation split of the config.
          repeats: how often the data are cut anew.
          seeds: runs of each trial and fold, of `config.seed` and those after it.
          stratified: whether folds have the classes' shares of the whole.
          mode: a function of `tuning/lane_modes.py`.
          earlier: those of another population of the same data, cut alike.

        Raises:
          UserError: a config that cannot be trained in a population.
        """
        cohort.check(config)
        self._modes = resolve("config.search.lane_mode", mode, lane_modes)
        self._folds = cross_validation.load(config, folds, repeats, stratified, earlier)
        config, _ = setup.sized(config, min(self._folds.sizes))
        batch_statistics.check(self._folds.run)
        self._cohort = cohort.Cohort(config, self._folds, pieces, seeds)
        self.config, self.slots, self.pieces = config, slots, pieces
        self.lanes_of_slot = self._cohort.lanes_of_trial
        self.warnings = self._folds.run.warnings()  # a line each, as `research.main` tells them
        self._occupants: dict[int, Occupant] = {}

    def description(self) -> list[str]:
        """Return the lines about the data that every start prints."""
        return self._folds.description()

    def fingerprint(self) -> dict:
        """Return the fingerprint of the data: `folds.fingerprint`."""
        return self._folds.fingerprint()

    def fitting(self) -> int:
        """How many slots fit into half the memory, about; at least one."""

        def memory(slots: int) -> int:
            return self._cohort.memory(slots, self._modes)

        return max(1, bisect.bisect_right(range(1, 2**31), platform.memory() // 2, key=memory))

    def estimate(self) -> Estimate:
        """Return what `memory` and `seconds` will say once it is compiled, by shapes alone.

        Of several sizes of a chunk that are to be measured it takes the largest.
        """
        memory = self._cohort.memory(self.slots, self._modes)
        return Estimate(memory, self.slots * self._cohort.seconds())

    def parameters(self) -> int:
        """How many parameters a network has."""
        return self._cohort.parameters

    def compile(self, chunk: int | None = None, turns: float = 1) -> float:
        """Compiles all that will ever run; returns the seconds that took.

        Args:
          chunk: lanes of a chunk on each device, `chunk` of an earlier start; None: as the mode
            says. Where that leaves several, a few steps of the first are measured, then of the
            others, and the fastest is kept; unless the first will be through with everything
            before the others could win their compilation back.
          turns: how many trials each slot will train, about.
        """
        started = time.perf_counter()
        mesh = Mesh(np.array(jax.local_devices()), (LANES,))
        self._arrays = jax.device_put(self._folds.arrays, NamedSharding(mesh, PartitionSpec()))
        numbers = self._cohort.hyperparameters({}, self.pieces)
        begin = lane.make_begin(self._folds)
        self._packing, self._packed_numbers = Packing(self._cohort.state), Packing(numbers)

        def packed_begin(numbers, split, arrays):
            return self._packing.pack(begin(self._packed_numbers.unpack(numbers), split, arrays))

        arguments = (self._packed_numbers.pack(numbers), np.int32(0), self._arrays)
        # It runs once for each lane: not worth three times as long a compilation.
        jitted = jax.jit(packed_begin, compiler_options=platform.QUICKLY)
        lanes = self.slots * self.lanes_of_slot
        sizes = (chunk,) if chunk else self._modes(-(-lanes // mesh.size))

        def of_size(size):
            return Chunks(self._folds, self._packing, size, self._arrays, mesh)

        with ThreadPoolExecutor() as threads:
            first_state = threads.submit(lambda: jitted.lower(*arguments).compile())
            candidates = [of_size(sizes[0])]
            self._first_state = first_state.result()
            state = jax.device_get(self._first_state(*arguments))
            # One alone is measured as well, for `seconds`.
            seconds = [candidates[0].measured(lanes, state)]
            self._lane_step = seconds[0]
            spent = time.perf_counter() - started
            if turns * self.pieces * self.seconds() > _WORTH_COMPILING * spent:
                # Most of a compilation is done by one core.
                candidates += threads.map(of_size, sizes[1:])
                seconds += [chunks.measured(lanes, state) for chunks in candidates[1:]]
        fastest = seconds.index(min(seconds))
        self._chunks, self.chunk = candidates[fastest], sizes[fastest]
        self._lane_step = seconds[fastest]
        self._states: list = []
        self._waiting: list[dict] = []  # states on their way into lanes
        self.grow(self.slots)
        return time.perf_counter() - started

    def grow(self, slots: int) -> None:
        """To so many slots, no fewer than before, by the programs that there are."""
        self.slots = slots
        count = -(-self.slots * self.lanes_of_slot // self._chunks.lanes)
        for _ in range(count - len(self._states)):
            self._states.append(self._chunks.empty())
            self._waiting.append({})
        self._splits = np.zeros((count, self._chunks.lanes), np.int32)
        for slot in range(self.slots):
            for number in range(self.lanes_of_slot):
                self._splits[self._place(slot, number)] = self._cohort.split(number)

    def seconds(self) -> float:
        """How long a piece of all slots takes, as far as a few steps tell."""
        steps = self._cohort.ends(self.pieces)[-1] / self.pieces
        return self._lane_step * self.slots * self.lanes_of_slot * steps

    def memory(self) -> int:
        """Bytes of all states and the data, and of what steps need besides."""
        return (
            sum(map(bytes_of, self._states))
            + bytes_of(self._arrays)
            + self._chunks.temporary(len(self._states))
        )

    def start(self, slot: int, values: dict[str, float], pieces: int) -> None:
        """Put a trial into a slot, in its first state.

        Args:
          slot: what is in it is forgotten.
          values: traced numbers by key of the config.
          pieces: the trial's length, of those of `config.duration`; durations given as shares of
            the training scale with it.
        """
        occupant = Occupant(dict(values), pieces, 0)
        states = []
        for number in range(self.lanes_of_slot):
            split = np.int32(self._cohort.split(number))
            numbers = self._packed_numbers.pack(self._hyperparameters(occupant, number))
            states.append(self._first_state(numbers, split, self._arrays))
        self._put(slot, occupant, states)

    def copy(self, slot: int, parent: int, values: dict[str, float]) -> None:
        """Put the state of another slot into this one, with other numbers, to train on from."""
        parked = self._parked(parent)
        occupant = dataclasses.replace(parked.occupant, values=dict(values))
        states = []
        for number, packed in enumerate(parked.states):
            numbers = self._hyperparameters(occupant, number)
            state = self._packing.unpack(packed).replace(hyperparameters=numbers)
            states.append(self._packing.pack(state))
        self._put(slot, occupant, states)

    def park(self, slot: int) -> Parked:
        """Take a trial out of its slot, to the host."""
        parked = self._parked(slot)
        del self._occupants[slot]
        return parked

    def unpark(self, slot: int, parked: Parked) -> None:
        """Put a parked trial into a slot, to train on."""
        self._put(slot, parked.occupant, parked.states)

    def states(self, slot: int) -> list:
        """Return the states of a slot's lanes, on the host, each as that of a run alone."""
        owned = [
            self._folds.own(self._folds.arrays, self._cohort.split(number))["statistics"]
            for number in range(self.lanes_of_slot)
        ]
        states = map(self._packing.unpack, self._parked(slot).states)
        return [state.replace(preprocessing=of) for state, of in zip(states, owned, strict=True)]

    def advance(self, slots: Sequence[int]) -> dict[int, Report]:
        """Trains these slots for one piece; all others stay as they are."""
        self._settle()
        steps = np.zeros(self._splits.shape, np.int32)
        for slot in slots:
            occupant = self._occupants[slot]
            for number in range(self.lanes_of_slot):
                ends = self._cohort.ends(occupant.pieces, number)
                steps[self._place(slot, number)] = ends[occupant.done + 1] - ends[occupant.done]
            self._occupants[slot] = dataclasses.replace(occupant, done=occupant.done + 1)
        busy = np.flatnonzero(steps.any(1))
        work = [(self._states[chunk], self._splits[chunk], steps[chunk]) for chunk in busy]
        results = {}
        for chunk, found in zip(busy, self._chunks.trained(work), strict=True):
            self._states[chunk], results[chunk] = found
        return {slot: self._report(slot, results) for slot in slots}

    def program_text(self) -> str:
        """Return the compiled program that trains a chunk, as XLA prints it."""
        return self._chunks.program.as_text()

    def _report(self, slot: int, results: dict) -> Report:
        places = [self._place(slot, number) for number in range(self.lanes_of_slot)]
        lanes = [taken(results[chunk], place) for chunk, place in places]
        task = self._folds.run.task
        train, validation = (
            [metrics.values(task, lane[split]) for lane in lanes]
            for split in ("train", "validation")
        )
        step = int(lanes[0]["step"])
        return Report(
            step,
            step * self.config.batch_size / self._folds.sizes[0],
            *([record[name] for record in train] for name in ("loss", "accuracy")),
            *([record[name] for record in validation] for name in ("loss", "accuracy")),
            finite=all(bool(of["finite"]) for of in lanes),
        )

    def _put(self, slot: int, occupant: Occupant, states: list) -> None:
        self._occupants[slot] = occupant
        for number, state in enumerate(states):
            chunk, place = self._place(slot, number)
            self._waiting[chunk][place] = state

    def _settle(self) -> None:
        """Put all states that wait for it into their chunks."""
        for chunk, waiting in enumerate(self._waiting):
            if waiting:
                states = jax.device_get(waiting)
                self._states[chunk] = self._chunks.replaced(self._states[chunk], states)
                waiting.clear()

    def _parked(self, slot: int) -> Parked:
        self._settle()
        states = []
        for number in range(self.lanes_of_slot):
            chunk, place = self._place(slot, number)
            states.append(taken(jax.device_get(self._states[chunk]), place))
        return Parked(self._occupants[slot], states)

    def _place(self, slot: int, number: int) -> tuple[int, int]:
        """Return the chunk, and the lane in it, of one of a slot's lanes."""
        return divmod(slot * self.lanes_of_slot + number, self._chunks.lanes)

    def _hyperparameters(self, occupant: Occupant, number: int) -> dict:
        return self._cohort.hyperparameters(occupant.values, occupant.pieces, number)


def of_one_search() -> Callable[..., Population]:
    """Make populations, whose configs have the same data, so that these are loaded once."""
    earlier = None

    def made(config: ConfigDict, slots: int, **settings: Any) -> Population:
        nonlocal earlier
        population = Population(config, slots, **settings, earlier=earlier)
        earlier = population._folds
        return population

    return made
