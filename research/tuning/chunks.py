"""Chunks: groups of lanes that one call of a compiled program trains, on one or several devices.

States of a chunk are packed (`training/packing.py`), with lanes along the first axis. On each
device the lanes are vectorised (`vmap`). A chunk of one lane runs the program of `research.main`.
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
_NO_LIMIT = np.int32(2**31 - 1)
_MEASURED_SECONDS = 0.1


def make_segment(folds: Folds, packing: Packing, size: int) -> Callable:
    """Return the pure function `segment(states, splits, arrays, steps) -> (states, results)`.

    Lanes with 0 `steps`, int32 (size,), keep their state to the bit.

    Args:
      folds: the data.
      packing: of the state of a lane.
      size: number of lanes on a device.
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
            """Train the least number of steps that any lane has left."""
            states, so_far, left = carry
            going = left > 0
            count = jnp.where(going, left, _NO_LIMIT).min()
            after, trained = train_all(states, splits, arrays, count)
            new, old = (after, metrics.join(so_far, trained)), (states, so_far)

            def selected(after, before):
                return jnp.where(going.reshape(-1, *[1] * (after.ndim - 1)), after, before)

            return *jax.tree.map(selected, new, old), left - count * going

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


def lane_of(tree, lane: int):
    """Copy one lane of a chunk's arrays on the host; their memory may be reused by the device."""
    return jax.tree.map(lambda array: np.array(array[lane]), tree)


class Chunks:
    """The compiled program for chunks of `size` lanes on each device."""

    def __init__(self, folds: Folds, packing: Packing, size: int, arrays, mesh: Mesh):
        """Compile the program.

        Args:
          folds: the data.
          packing: of the state of a lane.
          size: number of lanes on each device.
          arrays: arrays of the folds, placed on every device.
          mesh: all devices, along the axis `LANES`.
        """
        self.lanes = size * mesh.size
        self._arrays, self._sizes = arrays, packing.sizes
        along, whole = PartitionSpec(LANES), PartitionSpec()
        self._along = NamedSharding(mesh, along)
        function = make_segment(folds, packing, size)
        if mesh.size > 1:  # lanes are independent, so there is no communication
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
        self._cores, self._threads = cores, ThreadPoolExecutor(cores)

    def empty(self):
        """Return the states of a chunk without trials: zeros."""
        zeros = {name: np.zeros((self.lanes, size), name) for name, size in self._sizes.items()}
        return jax.device_put(zeros, self._along)

    def replaced(self, states, lanes: dict):
        """Return the states with those of some lanes replaced.

        Args:
          states: of a chunk.
          lanes: {lane: packed state on the host}.
        """

        def put(array, *own):
            array = np.array(array)
            array[list(lanes)] = np.stack(own)
            return array

        # It is rare, so it happens on the host, without a program to compile.
        return jax.device_put(jax.tree.map(put, states, *lanes.values()), self._along)

    def trained(self, work: Sequence[tuple]) -> list[tuple]:
        """Train several chunks for one segment.

        On CPU a program as small as a lane's keeps one core busy, and programs dispatched by one
        thread run one after another. So there is one thread for each core.

        Args:
          work: (states, splits, steps) of each chunk.

        Returns:
          (states, results) of each chunk, results on the host.
        """

        def train(chunk):
            states, splits, steps = chunk
            states, results = self.program(states, splits, self._arrays, steps)
            return states, jax.device_get(results)

        if len(work) == 1:
            return [train(work[0])]
        return list(self._threads.map(train, work))

    def temporary(self, chunks: int) -> int:
        """Return the bytes that a segment needs besides the states of its chunks and the data."""
        at_once = min(chunks, self._cores)
        return at_once * self.program.memory_analysis().temp_size_in_bytes

    def measured(self, lanes: int, state) -> float:
        """Measure the seconds of a training step per lane.

        Args:
          lanes: number of lanes to be trained in all.
          state: a packed state of one lane, on the host.
        """
        count = min(self._cores, -(-lanes // self.lanes))
        splits = np.zeros(self.lanes, np.int32)
        every = dict.fromkeys(range(self.lanes), state)
        chunks = [self.replaced(self.empty(), every) for _ in range(count)]

        def seconds(steps):
            nonlocal chunks
            steps = np.full(self.lanes, steps, np.int32)
            started = time.perf_counter()
            trained = self.trained([(states, splits, steps) for states in chunks])
            chunks = [states for states, _ in trained]
            return time.perf_counter() - started

        seconds(1)
        steps = int(np.clip(_MEASURED_SECONDS / seconds(1), 1, 200))
        return min(seconds(steps) for _ in range(2)) / (steps * self.lanes * count)
