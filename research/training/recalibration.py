"""Compute the running statistics of batch norm again, for the current weights."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from research import models
from research.data.dataset import Arrays, Records
from research.models.batch_norm import BatchNorm
from research.optimizers.multipliers import frozen_statistics
from research.tasks import Task
from research.training import ensembles, metrics
from research.training.metrics import Sums
from research.training.state import TrainState
from research.training.step import model_inputs

_NOISE = ("dropout_rate", "input_dropout_rate", "dropconnect_rate", "stochastic_depth_rate")


def make_recalibrate(config: ConfigDict, task: Task) -> Callable:
    """Return the pure function `recalibrate(state, inputs) -> state` over raw batches (K, B, ...).

    Layers that were frozen in the last step keep and use their running statistics.
    """
    by_itself = _by_itself(config, task, keep_frozen=True)

    def recalibrate(state: TrainState, inputs: jax.Array) -> TrainState:
        if not state.batch_stats:
            return state
        statistics = jax.lax.map(lambda batch: by_itself(state, batch)[1], inputs)
        pooled = _pooled(statistics, np.ones(len(inputs), np.float32))
        return state.replace(batch_stats=_replaced(state.batch_stats, pooled))

    return recalibrate


def recalibrate(
    config: ConfigDict,
    task: Task,
    state: TrainState,
    split: Arrays | Records,
    keep_frozen: bool = False,
) -> TrainState:
    """Replace the running statistics by those over a whole split, without noise.

    Each batch of `compute.evaluation_batch_size` is normalised by its own statistics, as in
    training. These are pooled over batches, weighted by batch size. A last batch of one example,
    which has no variance, is joined to the one before.

    Args:
      config: config of the run.
      task: the task.
      state: the state whose statistics are replaced.
      split: the examples.
      keep_frozen: keep the statistics of layers that were frozen in the last step.
    """
    if not state.batch_stats:
        return state
    by_itself = _by_itself(config, task, keep_frozen)

    def of_batch(state, inputs):
        return state.replace(batch_stats=by_itself(state, inputs)[1])

    statistics = jax.jit(
        lambda *arguments: ensembles.for_each(config, of_batch)(*arguments).batch_stats
    )
    size = min(config.compute.evaluation_batch_size, len(split))
    batches, sizes = [], []
    starts = range(0, max(1, len(split) - 1), size)
    for start, stop in zip(starts, [*starts[1:], len(split)], strict=True):
        inputs = split.load(np.arange(start, stop)).inputs
        batches.append(jax.device_get(statistics(state, jnp.asarray(inputs))))
        sizes.append(len(inputs))
    stacked = jax.tree.map(lambda *parts: np.stack(parts).astype(np.float64), *batches)
    pooled = _pooled(stacked, np.array(sizes, np.float64))
    pooled = jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), pooled)
    return state.replace(batch_stats=_replaced(state.batch_stats, pooled))


def train_and_eval_loss(
    config: ConfigDict, task: Task, state: TrainState, batch: Arrays
) -> tuple[float, float]:
    """Return the mean loss of a batch normalised by its own statistics, and by the running ones.

    Both are without noise, smoothing and penalties, so that only the statistics differ.
    """
    statistics = state.preprocessing
    targets = task.targets(jnp.asarray(batch.labels), statistics.get("targets", {}))
    logits, _ = jax.jit(_by_itself(config, task))(state, batch.inputs)
    model = models.build(config, state.hyperparameters, task.outputs)
    by_running = model.apply(
        {"params": state.params, **state.collections},
        model_inputs(config, state, jnp.asarray(batch.inputs)),
        train=False,
    )
    train, evaluated = (
        Sums(metrics.of_batch(task, outputs, targets, None, statistics)).loss
        for outputs in (logits, by_running)
    )
    return float(train), float(evaluated)


def _by_itself(config: ConfigDict, task: Task, keep_frozen: bool = False) -> Callable:
    """Return a function (state, raw inputs) -> logits and statistics of a batch, without noise.

    The batch is normalised by its own statistics. Only those of our `BatchNorm` are returned: the
    statistics of other modules may be of any form, and may not depend on the batch alone.
    """
    quiet = {name: jnp.zeros((), jnp.float32) for name in (*_NOISE, "batch_norm_decay")}
    config = config.copy_and_resolve_references()
    config.model.freeze_batch_stats = False
    config.model.ghost_batch_size = 0

    def by_itself(state: TrainState, inputs: jax.Array) -> tuple[jax.Array, dict]:
        numbers = state.hyperparameters
        numbers = numbers | {"model": numbers["model"] | quiet}  # decay 0: only this batch counts
        trees = state.params, state.batch_stats, state.step - 1
        frozen = frozen_statistics(config, numbers, *trees) if keep_frozen else {}
        ours = set()

        def note(call, arguments, keywords, context):
            if isinstance(context.module, BatchNorm):
                ours.add(context.module.path)
            return call(*arguments, **keywords)

        with nn.intercept_methods(note):
            logits, updates = models.build(config, numbers, task.outputs, frozen).apply(
                {"params": state.params, **state.collections},
                model_inputs(config, state, inputs),
                train=True,
                rngs={"dropout": jax.random.key(0)},  # drops nothing
                mutable=list(state.collections),
            )
        statistics = flatten_dict(updates.get("batch_stats", {}))
        return logits, unflatten_dict({p: v for p, v in statistics.items() if p[:-1] in ours})

    return by_itself


def _replaced(statistics: dict, pooled: dict) -> dict:
    """Return all statistics, with those that were computed anew in the place of the old ones."""
    return unflatten_dict({**flatten_dict(statistics), **flatten_dict(pooled)})


def _pooled(statistics: dict, sizes: np.ndarray) -> dict:
    """Pool the means and variances (K, ...) of K batches: those of all their examples together."""
    flat, shares = flatten_dict(statistics), sizes / sizes.sum()

    def total(values):
        return (values * shares.reshape(-1, *[1] * (values.ndim - 1))).sum(0)

    means = {path[:-1]: total(value) for path, value in flat.items() if path[-1] == "mean"}
    pooled = {
        path: means[path[:-1]]
        if path[-1] == "mean"
        else total(value + (flat[(*path[:-1], "mean")] - means[path[:-1]]) ** 2)
        for path, value in flat.items()
    }
    return unflatten_dict(pooled)
