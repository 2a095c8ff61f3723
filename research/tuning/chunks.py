"""Chunks: so many lanes in one compiled program, on one device or some on each of several.

A chunk's states are packed (`training/packing.py`), with the axis of its lanes first. On each
device lanes go together (`vmap`), or one alone, and then by the program of `research.main`.
"""

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from research.training import metrics
from research.training.packing import Packing
from research.tuning import lane
from research.tuning.folds import Folds

LANES = "lanes"
_FAR = np.int32(2**31 - 1)
_MEASURED_SECONDS = 0.1


def make_piece(folds: Folds, packing: Packing, size: int) -> Callable:
    """Return the pure function `piece(states, splits, arrays, steps) -> (states, results)`.

    Args:
      folds: the data.
      packing: of the state of a lane.
      size: lanes on a device.

    Lanes whose number of `steps`, int32 (size,), is 0 stay as they are, to the bit.
    """
    train, judge = lane.make_train(folds), lane.make_judge(folds)

    def alone(states, splits, arrays, steps):
        packed, split = jax.tree.map(lambda array: array[0], (states, splits))
        state, of_steps = train(packing.unpack(packed), split, arrays, steps[0])
        results = judge(state, of_steps, split, arrays)
        return jax.tree.map(lambda array: array[None], (packing.pack(state), results))

    def together(states, splits, arrays, steps):
        train_all = jax.vmap(train, (0, 0, None, None))

        def stretch(carry):
            """As many steps as the lane with the fewest has left; then the others go on."""
            states, so_far, left = carry
            going = left > 0
            count = jnp.where(going, left, _FAR).min()
            after, found = train_all(states, splits, arrays, count)
            new, old = (after, metrics.join(so_far, found)), (states, so_far)

            def picked(after, before):
                return jnp.where(going.reshape(-1, *[1] * (after.ndim - 1)), after, before)

            return *jax.tree.map(picked, new, old), left - count * going

        states = jax.vmap(packing.unpack)(states)
        _, shapes = jax.eval_shape(train_all, states, splits, arrays, steps[0])
        states, of_steps, _ = lax.while_loop(
            lambda carry: (carry[2] > 0).any(),
            stretch,
            (states, metrics.zeros(shapes), steps),
        )
        results = jax.vmap(judge, (0, 0, 0, None))(states, of_steps, splits, arrays)
        return jax.vmap(packing.pack)(states), results

    return alone if size == 1 else together


def taken(tree, lane: int):
    """One lane of a chunk's arrays on the host, copied: what they are views of may be reused."""
    return jax.tree.map(lambda array: np.array(array[lane]), tree)


class Chunks:
    """Compiled, for chunks of `size` lanes on each device; and how their states lie there."""

    def __init__(self, folds: Folds, packing: Packing, size: int, arrays, mesh: Mesh):
        """Compiles.

        Args:
          folds: the data.
          packing: of the state of a lane.
          size: lanes on each device.
          arrays: those of the folds, placed on every device.
          mesh: of all devices, along `LANES`.
        """
        self.lanes = size * mesh.size
        self._arrays, self._sizes = arrays, packing.sizes
        along, whole = PartitionSpec(LANES), PartitionSpec()
        self._along = NamedSharding(mesh, along)
        function = make_piece(folds, packing, size)
        if mesh.size > 1:  # lanes never ask each other for anything: nothing is summed or gathered
            function = jax.shard_map(
                function,
                mesh=mesh,
                in_specs=(along, along, whole, along),
                out_specs=along,
                check_vma=False,
            )
        count = jax.ShapeDtypeStruct((self.lanes,), np.int32, sharding=self._along)
        states = {
            name: jax.ShapeDtypeStruct((self.lanes, size), name, sharding=self._along)
            for name, size in self._sizes.items()
        }
        jitted = jax.jit(function, out_shardings=self._along, donate_argnums=0)
        self.program = jitted.lower(states, count, arrays, count).compile()
        cores = os.cpu_count() if jax.default_backend() == "cpu" else 1
        self._threads = ThreadPoolExecutor(cores)

    def empty(self):
        """Return the states of a chunk before any lane has begun."""
        zeros = {name: np.zeros((self.lanes, size), name) for name, size in self._sizes.items()}
        return jax.device_put(zeros, self._along)

    def replaced(self, states, lanes: dict):
        """Replace the states of some lanes, by number; return all states, packed."""

        def put(array, *own):
            array = np.array(array)
            array[list(lanes)] = np.stack(own)
            return array

        # On the host: it is rare, and needs no program.
        return jax.device_put(jax.tree.map(put, states, *lanes.values()), self._along)

    def trained(self, work: Sequence[tuple]) -> list[tuple]:
        """Train a piece of several chunks, (states, splits, steps): [(states, results), ...].

        Results are on the host. On CPU a program as small as a lane's keeps one core busy, and
        programs that one thread dispatches follow one another: so there is a thread for each core.
        """

        def one(of):
            states, splits, steps = of
            states, results = self.program(states, splits, self._arrays, steps)
            return states, jax.device_get(results)

        if len(work) == 1:
            return [one(work[0])]
        return list(self._threads.map(one, work))

    def temporary(self, chunks: int) -> int:
        """Bytes that a piece of so many chunks needs besides their states and the data."""
        at_once = min(chunks, self._threads._max_workers)
        return at_once * self.program.memory_analysis().temp_size_in_bytes

    def measured(self, lanes: int, state) -> float:
        """Return the seconds of a step for each lane, if so many lanes are to be trained.

        Args:
          lanes: in all.
          state: of a lane, packed, on the host.
        """
        count = min(self._threads._max_workers, -(-lanes // self.lanes))
        splits = np.zeros(self.lanes, np.int32)
        every = dict.fromkeys(range(self.lanes), state)
        chunks = [self.replaced(self.empty(), every) for _ in range(count)]

        def seconds(steps):
            nonlocal chunks
            steps = np.full(self.lanes, steps, np.int32)
            started = time.perf_counter()
            found = self.trained([(states, splits, steps) for states in chunks])
            chunks = [states for states, _ in found]
            return time.perf_counter() - started

        seconds(1)
        steps = int(np.clip(_MEASURED_SECONDS / seconds(1), 1, 200))
        return min(seconds(steps) for _ in range(2)) / (steps * self.lanes * count)
