"""Running statistics of batch norm, computed anew for the weights as they are."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from ml_collections import ConfigDict

from research import models
from research.data.feed import preprocess
from research.data.sources import Arrays, Records
from research.training.state import TrainState

_NOISE = ("dropout_rate", "input_dropout_rate", "dropconnect_rate", "stochastic_depth_rate")


def recalibrate(
    config: ConfigDict, classes: int, state: TrainState, split: Arrays | Records
) -> TrainState:
    """Replaces the running statistics by those over a whole split, without noise.

    Each batch of `compute.evaluation_batch_size` goes through the network normalised by its own
    statistics, as in training; means and variances are pooled over the batches: var =
    mean(var_b + mean_b^2) - mean^2. The last, smaller batch counts by its size.
    """
    if not state.batch_stats:
        return state
    numbers = state.hyperparameters
    quiet = {name: jnp.zeros((), jnp.float32) for name in (*_NOISE, "batch_norm_decay")}
    config = config.copy_and_resolve_references()
    config.model.freeze_batch_stats = False
    config.model.ghost_batch_size = 0
    numbers = numbers | {"model": numbers["model"] | quiet}  # decay 0: only this batch counts

    @jax.jit
    def statistics(state, inputs):
        model = models.build(config, numbers, classes)
        _, updates = model.apply(
            {"params": state.params, "batch_stats": state.batch_stats},
            preprocess(state.preprocessing, inputs),
            train=True,
            rngs={"dropout": jax.random.key(0)},  # drops nothing
            mutable=["batch_stats"],
        )
        return updates["batch_stats"]

    size = min(config.compute.evaluation_batch_size, len(split))
    moments: dict = {}  # first at 'mean', second at 'var'; in float64
    for start in range(0, len(split), size):
        inputs = split.load(np.arange(start, min(start + size, len(split)))).inputs
        found = flatten_dict(jax.device_get(statistics(state, jnp.asarray(inputs))))
        for path, value in found.items():
            value = value.astype(np.float64)
            if path[-1] == "var":
                value = value + np.square(found[(*path[:-1], "mean")].astype(np.float64))
            moments[path] = moments.get(path, 0.0) + len(inputs) / len(split) * value
    for path in moments:
        if path[-1] == "var":
            moments[path] = moments[path] - np.square(moments[(*path[:-1], "mean")])
    pooled = {path: jnp.asarray(value, jnp.float32) for path, value in moments.items()}
    return state.replace(batch_stats=unflatten_dict(pooled))
