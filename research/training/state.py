"""Define the train state: all that a step reads and changes, as one pytree."""

import functools
from typing import Any

import flax
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from research import models, optimizers
from research.data.feed import preprocess
from research.models import data_dependent, leaves
from research.names import resolve
from research.optimizers.multipliers import check_freeze
from research.training import averages
from research.training.randomness import INITIALIZATION, stream_key

# Collections that a state does not carry as `other_collections`.
_NOT_CARRIED = ("params", "batch_stats", "metrics", "intermediates")


@flax.struct.dataclass
class TrainState:
    """Hold what a checkpoint stores, and what a step maps to its successor."""

    step: jax.Array  # int32 scalar: updates made so far; also the cursor of all randomness
    params: Any
    batch_stats: Any  # running statistics of batch norm; {} if there are none
    opt_state: Any
    averages: Any  # of params and batch_stats: see training/averages.py; {} if none is kept
    preprocessing: Any  # fitted on the training split: data/preprocessing.py
    hyperparameters: Any  # traced scalars: see training/hyperparameters.py
    # Mutable collections of the model other than `batch_stats`, by name.
    other_collections: Any = flax.struct.field(default_factory=dict)

    @property
    def collections(self) -> dict:
        """Return all mutable collections of the model by name."""
        return {"batch_stats": self.batch_stats, **self.other_collections}

    def with_collections(self, collections: dict) -> "TrainState":
        """Return the state with these collections in place of its own."""
        others = {name: tree for name, tree in collections.items() if name != "batch_stats"}
        return self.replace(
            batch_stats=collections.get("batch_stats", {}), other_collections=others
        )


def init_state(
    config: ConfigDict, hyperparameters, statistics, inputs: jax.Array, outputs: int
) -> TrainState:
    """Return the state before the first step: a pure function of the seed.

    Args:
      config: static choices.
      hyperparameters: traced numbers; the seed decides the initial weights.
      statistics: the statistics of preprocessing.
      inputs: raw training examples (B, ...), for their shape and for weights fitted to data.
      outputs: number of outputs of the model.

    Raises:
      UserError: an unknown name in the config, or a model that cannot take such inputs.
    """
    model = models.build(config, hyperparameters, outputs)
    inputs = preprocess(statistics, inputs)
    key = stream_key(hyperparameters["seed"], INITIALIZATION)
    variables = model.init(key, inputs[:1], train=False)
    fit = resolve("config.model.fit_weights", config.model.fit_weights, data_dependent)
    params = fit(functools.partial(model.apply, train=False), variables, inputs)
    with leaves.stated_by(model):
        opt_state = optimizers.build(config, hyperparameters, step=0).init(params)
    batch_stats = variables.get("batch_stats", {})
    mutable = {name: variables[name] for name in variables if name not in _NOT_CARRIED}
    check_freeze(config, params, batch_stats)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        averages=averages.none_yet(config, params, batch_stats),
        preprocessing=jax.tree.map(jnp.asarray, statistics),
        hyperparameters=jax.tree.map(jnp.asarray, hyperparameters),
        other_collections=mutable,
    )
