"""Update the averaged weights in the train state, and evaluate the network that they form.

`TrainState.averages` is {'count', 'params', 'batch_stats'}: the number of averaged weights, their
average, and the average of the running statistics, by a function of `optimizers/averaging.py`. It
is {} if the run keeps no average; then the program has no code for averages.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from research import processes
from research.names import bind, resolve
from research.optimizers import averaging


def kept(config: ConfigDict) -> bool:
    """Return whether a run keeps an average."""
    return config.averaging.name != "none"


def recalibrated(config: ConfigDict) -> bool:
    """Return whether batch-norm statistics are recomputed for averaged weights.

    They are not if `freeze_batch_stats` is set, or `recalibration_examples` is 0.
    """
    wanted = kept(config) and config.averaging.recalibration_examples
    return bool(wanted) and not config.model.freeze_batch_stats


def none_yet(config: ConfigDict, params, batch_stats) -> dict:
    """Return the average before the first update; that update replaces it completely."""
    if not kept(config):
        return {}
    zeros = jax.tree.map(jnp.zeros_like, {"params": params, "batch_stats": batch_stats})
    return {"count": jnp.zeros((), jnp.int32), **zeros}


def updated(config: ConfigDict, state, params, batch_stats) -> dict:
    """Return the average after the update from `state` to these params and batch_stats."""
    if not kept(config):
        return {}
    share_of = resolve("config.averaging.name", config.averaging.name, averaging)
    share_of = bind(share_of, config.averaging, state.hyperparameters["averaging"])
    count = state.averages["count"]
    share = share_of(count, state.step + 1)

    def averaged(old, new):  # exact if the share is 0 or 1
        return ((1 - share) * old + share * new).astype(new.dtype)

    return {
        "count": jnp.where(share == 1, 1, count + (share > 0)),
        "params": jax.tree.map(averaged, state.averages["params"], params),
        "batch_stats": jax.tree.map(averaged, state.averages["batch_stats"], batch_stats),
    }


def of_several(state) -> bool:
    """Return whether the average is over more than one set of weights."""
    return bool((processes.on_host(state.averages["count"]) > 1).all())


def averaged(state):
    """Return the state with its average in place of its weights, for evaluation."""
    return state.replace(params=state.averages["params"], batch_stats=state.averages["batch_stats"])
