"""From a training split to the loop's `advance(state, steps) -> (state, metrics)`, compiled."""

from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from research.data.feed import to_device
from research.training import ensembles, executors
from research.training.setup import Setup
from research.training.step import make_train_step


def over_arrays(run: Setup, state) -> Callable:
    """Over data that live on the device: any number of steps is one dispatch."""
    data = to_device(run.train.inputs, run.train.labels)
    steps = executors.resident(make_train_step(run.config, run.classes), run.config.batch_size)
    program = jax.jit(ensembles.together(run.config, steps), donate_argnums=0)
    program = program.lower(state, data, np.int32(0)).compile()
    return lambda state, steps: program(state, data, np.int32(steps))


def over_batches(run: Setup, state, batches: Iterator) -> Callable:
    """Over batches that come from disk: each step is a dispatch, none is waited for."""
    program = jax.jit(
        executors.streamed(make_train_step(run.config, run.classes)), donate_argnums=(0, 1)
    )
    size = run.config.batch_size
    like = {
        "inputs": jax.ShapeDtypeStruct((size, *run.train.shape), run.train.dtype),
        **dict.fromkeys(("labels", "indices", "epochs"), jax.ShapeDtypeStruct((size,), np.int32)),
    }
    program = program.lower(state, executors.no_metrics(), like).compile()

    def advance(state, steps: int):
        metrics = executors.no_metrics()
        for _ in range(steps):
            batch = {name: jnp.asarray(array) for name, array in next(batches).items()}
            state, metrics = program(state, metrics, batch)
        return state, metrics

    return advance
