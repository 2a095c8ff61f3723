"""From a training split to the loop's `advance(state, steps) -> (state, metrics)`, compiled."""

from collections.abc import Callable, Iterator

import jax
import numpy as np

from research.names import resolve
from research.training import ensembles, executors, modes
from research.training.setup import Setup
from research.training.step import make_train_step


def over_arrays(run: Setup, state) -> Callable:
    """Advance over data that live on every device: any number of steps is one dispatch."""
    program, data = resident_program(run, state)
    return lambda state, steps: program(state, data, np.int32(steps))


def resident_program(run: Setup, state) -> tuple[Callable, dict]:
    """The compiled `executors.resident` in the config's mode, and the data it runs over."""
    config, layout = run.config, run.layout
    data = layout.put({"inputs": run.train.inputs, "labels": run.train.labels})
    place = {"place": layout.share} if config.parallel.mode == "jit" else {}
    steps = executors.resident(_train_step(run), config.batch_size, **place)
    steps = ensembles.together(config, steps)
    return _mode(run)(layout, steps, (state, data, np.int32(0)), (), (0,)), data


def over_batches(run: Setup, state, batches: Iterator) -> Callable:
    """Advance over batches that come from disk: each step is a dispatch, none is waited for.

    Each process reads its own rows of a batch (`Layout.local_rows`).
    """
    size, layout, train_step = run.config.batch_size, run.layout, _train_step(run)
    local = len(layout.local_rows(size))
    like = {
        "inputs": np.zeros((local, *run.train.shape), run.train.dtype),
        **dict.fromkeys(("labels", "indices", "epochs"), np.zeros(local, np.int32)),
    }
    batch = layout.put_rows(like, size)
    nothing = jax.device_get(
        jax.jit(executors.no_metrics, static_argnums=0)(train_step, state, batch)
    )
    arguments = (state, layout.put(nothing), batch)
    program = _mode(run)(layout, executors.streamed(train_step), arguments, (2,), (0, 1))

    def advance(state, steps: int):
        metrics = layout.put(nothing)
        for _ in range(steps):
            state, metrics = program(state, metrics, layout.put_rows(next(batches), size))
        return state, metrics

    return advance


def _train_step(run: Setup) -> Callable:
    return make_train_step(run.layout.static(run.config), run.task)


def _mode(run: Setup) -> Callable:
    return resolve("config.parallel.mode", run.config.parallel.mode, modes)
