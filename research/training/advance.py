"""Compile the loop's `advance(state, steps) -> (state, metrics)` for a training split."""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from research.data.dataset import Records
from research.names import resolve
from research.training import ensembles, executors, parallel
from research.training.setup import Setup
from research.training.step import make_train_step


def batches_from_disk(run: Setup) -> Iterator | None:
    """Return this process's rows of the training batches; None if the data are in memory.

    The iterator has a method `seek(step)`.
    """
    if not isinstance(run.train, Records):
        return None
    from research.data import stream

    size = run.config.batch_size
    rows = run.sharding.local_rows(size)
    return stream.TrainingBatches(run.train, size, run.config.seed, rows)


def over_arrays(run: Setup, state) -> Callable:
    """Advance over data that lie on every device: any number of steps is one dispatch."""
    program, data = resident_program(run, state)
    return lambda state, steps: program(state, data, np.int32(steps))


def resident_program(run: Setup, state) -> tuple[Callable, dict]:
    """Return the compiled `executors.resident` in the config's mode, and the data it runs over."""
    config, sharding = run.config, run.sharding
    data = sharding.put({"inputs": run.train.inputs, "labels": run.train.labels})
    place = {"place": sharding.share} if config.parallel.mode == "jit" else {}
    steps = executors.resident(_train_step(run), config.batch_size, **place)
    steps = ensembles.together(config, steps)
    return _mode(run)(sharding, steps, (state, data, np.int32(0)), (), (0,)), data


def over_batches(run: Setup, state, batches: Iterator) -> Callable:
    """Advance over batches from disk: each step is a dispatch, and none is waited for.

    Each process reads its own rows of a batch (`Sharding.local_rows`).
    """
    size, sharding, train_step = run.config.batch_size, run.sharding, _train_step(run)
    local = len(sharding.local_rows(size))
    like = {
        "inputs": np.zeros((local, *run.train.shape), run.train.dtype),
        **dict.fromkeys(("labels", "indices", "epochs"), np.zeros(local, np.int32)),
    }
    batch = sharding.put_rows(like, size)
    nothing = jax.device_get(
        jax.jit(executors.no_metrics, static_argnums=0)(train_step, state, batch)
    )
    arguments = (state, sharding.put(nothing), batch)
    program = _mode(run)(sharding, executors.streamed(train_step), arguments, (2,), (0, 1))

    def advance(state, steps: int):
        metrics = sharding.put(nothing)
        for _ in range(steps):
            state, metrics = program(state, metrics, sharding.put_rows(next(batches), size))
        return state, metrics

    return advance


def _train_step(run: Setup) -> Callable:
    return make_train_step(run.sharding.static(run.config), run.task)


def _mode(run: Setup) -> Callable:
    return resolve("config.parallel.mode", run.config.parallel.mode, parallel)
