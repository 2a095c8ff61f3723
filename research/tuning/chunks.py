"""Chunks: so many lanes in one compiled program, on one device or some on each of several.

A chunk's arrays have the axis of its lanes first. On each device lanes go together (`vmap`), or one
alone, and then by the program of `research.main`.
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

from research.training import executors
from research.tuning import lane
from research.tuning.folds import Folds

LANES = "lanes"
_FAR = np.int32(2**31 - 1)
_MEASURED_SECONDS = 0.1


def make_piece(folds: Folds, size: int) -> Callable:
    """The pure function `piece(states, splits, arrays, steps) -> (states, results)`.

    Args:
      folds: the data.
      size: lanes on a device.

    Lanes whose number of `steps`, int32 (size,), is 0 stay as they are, to the bit.
    """
    train, judge = lane.make_train(folds), lane.make_judge(folds)

    def alone(states, splits, arrays, steps):
        state, split = jax.tree.map(lambda array: array[0], (states, splits))
        state, metrics = train(state, split, arrays, steps[0])
        results = judge(state, metrics, split, arrays)
        return jax.tree.map(lambda array: array[None], (state, results))

    def together(states, splits, arrays, steps):
        train_all = jax.vmap(train, (0, 0, None, None))

        def stretch(carry):
            """As many steps as the lane with the fewest has left; then the others go on."""
            states, metrics, left = carry
            going = left > 0
            count = jnp.where(going, left, _FAR).min()
            after, found = train_all(states, splits, arrays, count)
            new, old = (after, executors.add(metrics, found)), (states, metrics)

            def picked(after, before):
                return jnp.where(going.reshape(-1, *[1] * (after.ndim - 1)), after, before)

            return *jax.tree.map(picked, new, old), left - count * going

        none = jax.tree.map(lambda zero: jnp.full(size, zero), executors.no_metrics())
        states, metrics, _ = lax.while_loop(
            lambda carry: (carry[2] > 0).any(), stretch, (states, none, steps)
        )
        return states, jax.vmap(judge, (0, 0, 0, None))(states, metrics, splits, arrays)

    return alone if size == 1 else together


def make_begin(folds: Folds) -> Callable:
    """The pure function `begin(states, hyperparameters, splits, arrays, fresh) -> states`.

    Lanes that are `fresh`, bool (size,), get their first state; one after the other, for the
    weights to be those of a run alone to the bit.
    """
    init = lane.make_begin(folds)

    def begin(states, hyperparameters, splits, arrays, fresh):
        def one(of):
            state, numbers, split, fresh = of
            return lax.cond(fresh, lambda: init(numbers, split, arrays), lambda: state)

        return lax.map(one, (states, hyperparameters, splits, fresh))

    return begin


def take(states, number):
    """The state of one lane."""
    return jax.tree.map(lambda array: array[number], states)


def put(states, number, state):
    """The states, of which one lane's is this."""
    return jax.tree.map(lambda array, leaf: array.at[number].set(leaf), states, state)


class Programs:
    """The compiled programs of chunks of `size` lanes on each device, and their arrays' places."""

    def __init__(self, folds: Folds, size: int, hyperparameters, devices):
        """Compiles; `hyperparameters` are those of any lane."""
        self.size, self.lanes = size, size * len(devices)
        mesh = Mesh(np.array(devices), (LANES,))
        self._along, self._whole = (
            NamedSharding(mesh, spec) for spec in (PartitionSpec(LANES), PartitionSpec())
        )
        along, whole = PartitionSpec(LANES), PartitionSpec()
        self.arrays = jax.device_put(folds.arrays, self._whole)
        shapes = jax.eval_shape(lane.make_begin(folds), hyperparameters, np.int32(0), self.arrays)
        self.state = shapes
        states = self.stacked(shapes, self._along)
        numbers = self.stacked(jax.tree.map(np.asarray, hyperparameters))
        count = np.zeros(self.lanes, np.int32)

        def shared_out(function, specs, out):
            if len(devices) == 1:
                return function
            # Lanes never ask each other for anything: nothing is to be summed or gathered.
            return jax.shard_map(
                function, mesh=mesh, in_specs=specs, out_specs=out, check_vma=False
            )

        piece = shared_out(make_piece(folds, size), (along, along, whole, along), along)
        begin = shared_out(make_begin(folds), (along, along, along, whole, along), along)
        self.piece = self._compiled(piece, states, count, self.arrays, count)
        self.begin = self._compiled(begin, states, numbers, count, self.arrays, count.astype(bool))
        self.take = jax.jit(take, out_shardings=self._whole).lower(states, np.int32(0)).compile()
        one = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=self._whole), shapes
        )
        self.put = self._compiled(put, states, np.int32(0), one)
        self._threads = ThreadPoolExecutor(os.cpu_count() if devices[0].platform == "cpu" else 1)

    def pieces(self, work: Sequence[tuple]) -> list[tuple]:
        """`piece` of several chunks, given as (states, splits, steps): [(states, results), ...].

        Results are on the host. On CPU a program as small as a lane's keeps one core busy, and
        programs that one thread dispatches follow one another: so there is a thread for each core.
        """

        def one(of):
            states, splits, steps = of
            states, results = self.piece(states, splits, self.arrays, steps)
            return states, jax.device_get(results)

        if len(work) == 1:
            return [one(work[0])]
        return list(self._threads.map(one, work))

    def measured(self, lanes: int, hyperparameters) -> float:
        """The seconds that a step takes, for each lane, where so many lanes are to be trained."""
        count = min(self._threads._max_workers, -(-lanes // self.lanes))
        stacked = jax.tree.map(lambda leaf: np.stack([leaf] * self.lanes), hyperparameters)
        splits, fresh = np.zeros(self.lanes, np.int32), np.ones(self.lanes, bool)
        chunks = [
            self.begin(self.empty(), stacked, splits, self.arrays, fresh) for _ in range(count)
        ]

        def seconds(steps):
            nonlocal chunks
            steps = np.full(self.lanes, steps, np.int32)
            started = time.perf_counter()
            found = self.pieces([(states, splits, steps) for states in chunks])
            chunks = [states for states, _ in found]
            return time.perf_counter() - started

        seconds(1)
        steps = int(np.clip(_MEASURED_SECONDS / seconds(1), 1, 200))
        return min(seconds(steps) for _ in range(2)) / (steps * self.lanes * count)

    def _compiled(self, function, *arguments):
        return (
            jax.jit(function, out_shardings=self._along, donate_argnums=0)
            .lower(*arguments)
            .compile()
        )

    def stacked(self, shapes, sharding=None):
        """The shapes of all lanes of a chunk."""
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(
                (self.lanes, *leaf.shape), leaf.dtype, sharding=sharding
            ),
            shapes,
        )

    def empty(self):
        """The states of a chunk before any lane has begun."""
        zeros = jax.tree.map(
            lambda leaf: np.zeros((self.lanes, *leaf.shape), leaf.dtype), self.state
        )
        return jax.device_put(zeros, self._along)
