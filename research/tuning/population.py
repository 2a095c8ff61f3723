"""A population: trials with the same static choices, trained side by side in compiled lanes.

A *trial* is one setting of the traced hyper-parameters. It occupies a *slot* of m lanes, one for
each fold, repeat and seed. Samplers and schedulers decide which trial is in which slot; this file
only trains the slots. Nothing is compiled after `compile`.
"""

import bisect
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from research import platform
from research.config.key import LARGEST_FLOAT32
from research.names import resolve
from research.training import batch_statistics, metrics, setup
from research.training.packing import Packing
from research.tuning import folds as cross_validation
from research.tuning import lane, lane_modes
from research.tuning.chunks import LANES, Chunks, lane_of
from research.tuning.config import check_lanes
from research.tuning.costs import Estimate, LaneCosts, bytes_of
from research.tuning.reports import Report
from research.tuning.trials import TrialState

# Other chunk sizes are compiled if training takes this many times as long as compilation so far.
# Each takes as long again; it saves a quarter of the time on CPU at best, far more on accelerators.
_WORTH_COMPILING = 4


class Population:
    """Slots of lanes that train trials with the same static choices."""

    def __init__(
        self,
        config: ConfigDict,
        slots: int,
        *,
        segments: int = 10,
        folds: int = 1,
        repeats: int = 1,
        seeds: int = 1,
        stratified: bool = True,
        mode: str = "auto",
        earlier: cross_validation.Folds | None = None,
    ):
        """Load the data; compile nothing.

        Args:
          config: as `Space.program` makes it.
          slots: number of trials side by side.
          segments: number of segments in a training of `config.duration`.
          folds: number of cross-validation folds; 1: the validation split of the config.
          repeats: number of times that the data are cut anew.
          seeds: runs of each trial and fold, with `config.seed` and the seeds after it.
          stratified: whether all folds have the same shares of classes.
          mode: a function of `tuning/lane_modes.py`.
          earlier: folds of another population with the same data and the same cuts.

        Raises:
          UserError: a config that cannot be trained in a population.
        """
        check_lanes(config)
        self._modes = resolve("config.search.lane_mode", mode, lane_modes)
        self.folds = cross_validation.load(config, folds, repeats, stratified, earlier)
        config, _ = setup.sized(config, min(self.folds.sizes))
        batch_statistics.check(self.folds.run)
        self._lanes = lane.TrialLanes(config, self.folds, segments, seeds)
        self._costs = LaneCosts(self._lanes)
        self.config, self.slots, self.segments = config, slots, segments
        self.lanes_of_slot = len(self._lanes)
        self.warnings = self.folds.run.warnings()  # those of `research.main`, one a line
        self._trials: dict[int, TrialState] = {}  # by slot

    def description(self) -> list[str]:
        """Return the lines about the data that every start prints."""
        return self.folds.description()

    def fingerprint(self) -> dict:
        """Return the fingerprint of the data: `folds.fingerprint`."""
        return self.folds.fingerprint()

    def fitting(self) -> int:
        """Estimate how many slots fit into half the memory; at least one."""
        memory = functools.partial(self._costs.memory, modes=self._modes)
        return max(1, bisect.bisect_right(range(1, 2**31), platform.memory() // 2, key=memory))

    def estimate(self) -> Estimate:
        """Estimate `memory` and `seconds` from shapes, with the largest chunk of the lane mode."""
        memory = self._costs.memory(self.slots, self._modes)
        return Estimate(memory, self.slots * self._costs.seconds())

    def parameters(self) -> int:
        """Return the number of parameters of a network."""
        return self._lanes.parameters

    def compile(self, chunk: int | None = None, turns: float = 1) -> float:
        """Compile everything that will run; return the seconds that it took.

        Args:
          chunk: lanes of a chunk on each device, as measured at an earlier start. None: by the lane
            mode. The first of its sizes is compiled and timed for a few steps. The others follow,
            and the fastest is kept, if the training is long enough to pay for their compilation.
          turns: expected number of trials that each slot will train.
        """
        started = time.perf_counter()
        mesh = Mesh(np.array(jax.local_devices()), (LANES,))
        self._arrays = jax.device_put(self.folds.arrays, NamedSharding(mesh, PartitionSpec()))
        numbers, begin = self._lanes.hyperparameters({}, self.segments), lane.make_begin(self.folds)
        self._packing, self._packed_numbers = Packing(self._lanes.state), Packing(numbers)

        def packed_begin(numbers, split, arrays):
            return self._packing.pack(begin(self._packed_numbers.unpack(numbers), split, arrays))

        arguments = (self._packed_numbers.pack(numbers), np.int32(0), self._arrays)
        # It runs once for each lane: fast code would not repay three times the compilation.
        jitted = jax.jit(packed_begin, compiler_options=platform.QUICKLY)
        lanes = self.slots * self.lanes_of_slot
        sizes = (chunk,) if chunk else self._modes(-(-lanes // mesh.size))

        def of_size(size):
            return Chunks(self.folds, self._packing, size, self._arrays, mesh)

        with ThreadPoolExecutor() as threads:
            first_state = threads.submit(lambda: jitted.lower(*arguments).compile())
            candidates = [of_size(sizes[0])]
            self._first_state = first_state.result()
            state = jax.device_get(self._first_state(*arguments))
            # A single candidate is timed too, for `seconds`.
            seconds = [candidates[0].measured(lanes, state)]
            self._lane_step = seconds[0]
            spent = time.perf_counter() - started
            if turns * self.segments * self.seconds() > _WORTH_COMPILING * spent:
                # A compilation runs mostly on one core.
                candidates += threads.map(of_size, sizes[1:])
                seconds += [chunks.measured(lanes, state) for chunks in candidates[1:]]
        fastest = seconds.index(min(seconds))
        self._chunks, self.chunk = candidates[fastest], sizes[fastest]
        self._lane_step = seconds[fastest]
        # For each chunk: its states, and states to be written into its lanes.
        self._states, self._waiting = [], []
        self.grow(self.slots)
        return time.perf_counter() - started

    def grow(self, slots: int) -> None:
        """Add slots, up to this number in all, without compiling."""
        self.slots = slots
        count = -(-self.slots * self.lanes_of_slot // self._chunks.lanes)
        for _ in range(count - len(self._states)):
            self._states.append(self._chunks.empty())
            self._waiting.append({})
        self._splits = np.zeros((count, self._chunks.lanes), np.int32)
        for slot in range(self.slots):
            for number in range(self.lanes_of_slot):
                self._splits[self._place(slot, number)] = self._lanes.split(number)

    def seconds(self) -> float:
        """Return the time of a segment of all slots, extrapolated from a few steps."""
        steps = self._lanes.ends(self.segments)[-1] / self.segments
        return self._lane_step * self.slots * self.lanes_of_slot * steps

    def memory(self) -> int:
        """Return the bytes of all states, the data, and the temporaries of a step."""
        return (
            sum(map(bytes_of, self._states))
            + bytes_of(self._arrays)
            + self._chunks.temporary(len(self._states))
        )

    def start(self, slot: int, values: dict[str, float], segments: int) -> None:
        """Put a new trial into a slot, in its initial state.

        Args:
          slot: its previous trial is dropped.
          values: traced hyper-parameters by key of the config.
          segments: its length; durations that are shares of the training scale with it.
        """
        trial = TrialState(dict(values), segments)
        states = []
        for number in range(self.lanes_of_slot):
            split = np.int32(self._lanes.split(number))
            numbers = self._packed_numbers.pack(self._hyperparameters(trial, number))
            states.append(self._first_state(numbers, split, self._arrays))
        self._put(slot, trial, states)

    def copy(self, slot: int, parent: int, values: dict[str, float]) -> None:
        """Copy the state of a parent's slot into this slot, with other hyper-parameters."""
        parked = self._on_host(parent)
        trial = dataclasses.replace(parked, values=dict(values))
        states = []
        for number, packed in enumerate(parked.lanes):
            numbers = self._hyperparameters(trial, number)
            state = self._packing.unpack(packed).replace(hyperparameters=numbers)
            states.append(self._packing.pack(state))
        self._put(slot, trial, states)

    def park(self, slot: int) -> TrialState:
        """Move a trial from its slot to the host."""
        parked = self._on_host(slot)
        del self._trials[slot]
        return parked

    def unpark(self, slot: int, parked: TrialState) -> None:
        """Move a trial from the host into a slot, to continue training."""
        self._put(slot, parked, parked.lanes)

    def states(self, slot: int) -> list:
        """Return the train states of a slot's lanes on the host, each like that of a single run."""
        statistics = [
            self.folds.own(self.folds.arrays, self._lanes.split(number))["statistics"]
            for number in range(self.lanes_of_slot)
        ]
        states = map(self._packing.unpack, self._on_host(slot).lanes)
        return [
            state.replace(preprocessing=own) for state, own in zip(states, statistics, strict=True)
        ]

    def advance(self, slots: Sequence[int]) -> dict[int, Report]:
        """Train these slots for one segment; all others stay as they are."""
        self._write_waiting()
        steps = np.zeros(self._splits.shape, np.int32)
        for slot in slots:
            trial = self._trials[slot]
            for number in range(self.lanes_of_slot):
                ends = self._lanes.ends(trial.segments, number)
                steps[self._place(slot, number)] = ends[trial.done + 1] - ends[trial.done]
            self._trials[slot] = dataclasses.replace(trial, done=trial.done + 1)
        busy = np.flatnonzero(steps.any(1))
        work = [(self._states[chunk], self._splits[chunk], steps[chunk]) for chunk in busy]
        results = {}
        for chunk, trained in zip(busy, self._chunks.trained(work), strict=True):
            self._states[chunk], results[chunk] = trained
        return {slot: self._report(slot, results) for slot in slots}

    def program_text(self) -> str:
        """Return the compiled program that trains a chunk, as XLA prints it."""
        return self._chunks.program.as_text()

    def _report(self, slot: int, results: dict) -> Report:
        places = [self._place(slot, number) for number in range(self.lanes_of_slot)]
        lanes = [lane_of(results[chunk], place) for chunk, place in places]

        def by_metric(split: str) -> dict[str, list[float]]:
            """Return the metrics that are one number; the ledger has no arrays."""
            each = [metrics.values(self.folds.run.task, sums[split]) for sums in lanes]
            return {
                name: [_bounded(values[name]) for values in each]
                for name, value in each[0].items()
                if isinstance(value, float)
            }

        step = int(lanes[0]["step"])
        return Report(
            step,
            step * self.config.batch_size / self.folds.sizes[0],
            train=by_metric("train"),
            validation=by_metric("validation"),
            finite=all(bool(sums["finite"]) for sums in lanes),
        )

    def _put(self, slot: int, trial: TrialState, states: list) -> None:
        self._trials[slot] = dataclasses.replace(trial, lanes=None)
        for number, state in enumerate(states):
            chunk, place = self._place(slot, number)
            self._waiting[chunk][place] = state

    def _write_waiting(self) -> None:
        """Write all waiting states into their chunks."""
        for chunk, waiting in enumerate(self._waiting):
            if waiting:
                states = jax.device_get(waiting)
                self._states[chunk] = self._chunks.replaced(self._states[chunk], states)
                waiting.clear()

    def _on_host(self, slot: int) -> TrialState:
        """Return a copy of a trial with the states of its lanes."""
        self._write_waiting()
        places = [self._place(slot, number) for number in range(self.lanes_of_slot)]
        lanes = [lane_of(jax.device_get(self._states[chunk]), place) for chunk, place in places]
        return dataclasses.replace(self._trials[slot], lanes=lanes)

    def _place(self, slot: int, number: int) -> tuple[int, int]:
        """Return the chunk of lane `number` of a slot, and its lane within the chunk."""
        return divmod(slot * self.lanes_of_slot + number, self._chunks.lanes)

    def _hyperparameters(self, trial: TrialState, number: int) -> dict:
        return self._lanes.hyperparameters(trial.values, trial.segments, number)


def _bounded(value: float) -> float:
    """Return infinity for what float32 cannot hold, such as the perplexity of a large loss."""
    return value if not abs(value) > LARGEST_FLOAT32 else math.copysign(math.inf, value)


def factory() -> Callable[..., Population]:
    """Return a maker of populations that loads the data once: their configs have the same data."""
    earlier = None

    def make(config: ConfigDict, slots: int, **settings: Any) -> Population:
        nonlocal earlier
        population = Population(config, slots, **settings, earlier=earlier)
        earlier = population.folds
        return population

    return make
