"""Running statistics of batch norm, computed anew for the weights as they are."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from research import models
from research.data.dataset import Arrays, Records
from research.data.feed import preprocess
from research.optimizers.multipliers import frozen_statistics
from research.training import ensembles, loss
from research.training.state import TrainState

_NOISE = ("dropout_rate", "input_dropout_rate", "dropconnect_rate", "stochastic_depth_rate")


def make_recalibrate(config: ConfigDict, classes: int) -> Callable:
    """The pure function `recalibrate(state, inputs) -> state` over raw batches (K, B, ...).

    Layers that were frozen in the last step keep their running statistics, and go by them.
    """
    by_itself = _by_itself(config, classes, keep_frozen=True)

    def recalibrate(state: TrainState, inputs: jax.Array) -> TrainState:
        if not state.batch_stats:
            return state
        found = jax.lax.map(lambda batch: by_itself(state, batch)[1], inputs)
        return state.replace(batch_stats=_pooled(found, np.ones(len(inputs), np.float32)))

    return recalibrate


def recalibrate(
    config: ConfigDict,
    classes: int,
    state: TrainState,
    split: Arrays | Records,
    keep_frozen: bool = False,
) -> TrainState:
    """Replaces the running statistics by those over a whole split, without noise.

    Each batch of `compute.evaluation_batch_size` goes through the network normalised by its own
    statistics, as in training; they are pooled over the batches, which count by their sizes. A last
    batch of one example, which has no variance, is joined to the one before.

    Args:
      config: of the run.
      classes: number of classes.
      state: whose statistics are replaced.
      split: what they are taken over.
      keep_frozen: leaves those of layers that were frozen in the last step.
    """
    if not state.batch_stats:
        return state
    by_itself = _by_itself(config, classes, keep_frozen)

    def of_batch(state, inputs):
        return state.replace(batch_stats=by_itself(state, inputs)[1])

    statistics = jax.jit(lambda *of: ensembles.for_each(config, of_batch)(*of).batch_stats)
    size = min(config.compute.evaluation_batch_size, len(split))
    found, sizes = [], []
    starts = range(0, max(1, len(split) - 1), size)
    for start, stop in zip(starts, [*starts[1:], len(split)], strict=True):
        inputs = split.load(np.arange(start, stop)).inputs
        found.append(jax.device_get(statistics(state, jnp.asarray(inputs))))
        sizes.append(len(inputs))
    stacked = jax.tree.map(lambda *parts: np.stack(parts).astype(np.float64), *found)
    pooled = _pooled(stacked, np.array(sizes, np.float64))
    return state.replace(
        batch_stats=jax.tree.map(lambda value: jnp.asarray(value, jnp.float32), pooled)
    )


def train_and_eval_loss(
    config: ConfigDict, classes: int, state: TrainState, batch: Arrays
) -> tuple[float, float]:
    """The mean loss of a batch normalised by its own statistics, and by the running ones.

    Without noise, smoothing and penalties, so that nothing but the statistics differs.
    """
    targets = jax.nn.one_hot(batch.labels, classes)
    logits, _ = jax.jit(_by_itself(config, classes))(state, batch.inputs)
    model = models.build(config, state.hyperparameters, classes)
    by_running = model.apply(
        {"params": state.params, "batch_stats": state.batch_stats},
        preprocess(state.preprocessing, jnp.asarray(batch.inputs)).astype(config.compute.dtype),
        train=False,
    )
    train, evaluated = (loss.sums(found, targets)["loss"] for found in (logits, by_running))
    return float(train) / len(batch), float(evaluated) / len(batch)


def _by_itself(config: ConfigDict, classes: int, keep_frozen: bool = False) -> Callable:
    """(state, raw inputs) -> logits and statistics of a batch normalised by itself, no noise."""
    quiet = {name: jnp.zeros((), jnp.float32) for name in (*_NOISE, "batch_norm_decay")}
    config = config.copy_and_resolve_references()
    config.model.freeze_batch_stats = False
    config.model.ghost_batch_size = 0

    def by_itself(state: TrainState, inputs: jax.Array) -> tuple[jax.Array, dict]:
        numbers = state.hyperparameters
        numbers = numbers | {"model": numbers["model"] | quiet}  # decay 0: only this batch counts
        trees = state.params, state.batch_stats, state.step - 1
        frozen = frozen_statistics(config, numbers, *trees) if keep_frozen else {}
        logits, updates = models.build(config, numbers, classes, frozen).apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            preprocess(state.preprocessing, inputs).astype(config.compute.dtype),
            train=True,
            rngs={"dropout": jax.random.key(0)},  # drops nothing
            mutable=["batch_stats"],
        )
        return logits, updates.get("batch_stats", {})

    return by_itself


def _pooled(statistics: dict, sizes: np.ndarray) -> dict:
    """Means and variances (K, ...) of K batches as those of all their examples together."""
    found, shares = flatten_dict(statistics), sizes / sizes.sum()

    def total(values):
        return (values * shares.reshape(-1, *[1] * (values.ndim - 1))).sum(0)

    means = {path[:-1]: total(value) for path, value in found.items() if path[-1] == "mean"}
    pooled = {
        path: means[path[:-1]]
        if path[-1] == "mean"
        else total(value + (found[(*path[:-1], "mean")] - means[path[:-1]]) ** 2)
        for path, value in found.items()
    }
    return unflatten_dict(pooled)
