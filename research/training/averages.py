"""The average of the weights that the train state carries, and the network that it is.

`TrainState.averages` is {'count', 'params', 'batch_stats'}: how many weights are in it, and their
average and that of the running statistics, by a function of `optimizers/averaging.py`. It is {}
where none is kept, and then there is no code for it in the program.
"""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from research import processes
from research.names import bind, resolve
from research.optimizers import averaging


def kept(config: ConfigDict) -> bool:
    """Whether a run keeps an average."""
    return config.averaging.name != "none"


def recalibrated(config: ConfigDict) -> bool:
    """Whether averaged weights get statistics of their own: not where training kept fixed ones."""
    wanted = kept(config) and config.averaging.recalibration_examples
    return bool(wanted) and not config.model.freeze_batch_stats


def none_yet(config: ConfigDict, params, batch_stats) -> dict:
    """The average before the first update, which replaces it whole."""
    if not kept(config):
        return {}
    zeros = jax.tree.map(jnp.zeros_like, {"params": params, "batch_stats": batch_stats})
    return {"count": jnp.zeros((), jnp.int32), **zeros}


def updated(config: ConfigDict, state, params, batch_stats) -> dict:
    """The average after the update that takes `state` to these params and batch_stats."""
    if not kept(config):
        return {}
    share_of = resolve("config.averaging.name", config.averaging.name, averaging)
    share_of = bind(share_of, config.averaging, state.hyperparameters["averaging"])
    count = state.averages["count"]
    share = share_of(count, state.step + 1)

    def averaged(old, new):  # exact where the share is 0 or 1
        return ((1 - share) * old + share * new).astype(new.dtype)

    return {
        "count": jnp.where(share == 1, 1, count + (share > 0)),
        "params": jax.tree.map(averaged, state.averages["params"], params),
        "batch_stats": jax.tree.map(averaged, state.averages["batch_stats"], batch_stats),
    }


def of_several(state) -> bool:
    """Whether the average is one: of a single set of weights it is those weights."""
    return bool((processes.on_host(state.averages["count"]) > 1).all())


def averaged(state):
    """The state with its average in place of its weights, to be evaluated."""
    return state.replace(params=state.averages["params"], batch_stats=state.averages["batch_stats"])
