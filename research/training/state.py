"""The train state: all that a step reads and changes, as one pytree."""

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


@flax.struct.dataclass
class TrainState:
    """What a checkpoint holds and a step maps to its successor."""

    step: jax.Array  # int32 scalar: updates made so far; also the cursor of all randomness
    params: Any
    batch_stats: Any  # running statistics of batch norm; {} where there are none
    opt_state: Any
    averages: Any  # of params and batch_stats: see training/averages.py; {} where none is kept
    preprocessing: Any  # fitted on the training split: data/preprocessing.py
    hyperparameters: Any  # traced scalars: see training/hyperparameters.py


def init_state(
    config: ConfigDict, hyperparameters, statistics, inputs: jax.Array, classes: int
) -> TrainState:
    """The state before the first step: a pure function of the seed, jittable and vmappable.

    Args:
      config: static choices.
      hyperparameters: traced numbers; the seed decides the initial weights.
      statistics: what preprocessing was fitted to.
      inputs: raw training examples (B, ...): for their shape, and for weights fitted to data.
      classes: number of classes.

    Raises:
      UserError: an unknown name in the config, or a model that cannot take such inputs.
    """
    model = models.build(config, hyperparameters, classes)
    inputs = preprocess(statistics, inputs)
    key = stream_key(hyperparameters["seed"], INITIALIZATION)
    variables = model.init(key, inputs[:1], train=False)
    fit = resolve("config.model.fit_weights", config.model.fit_weights, data_dependent)
    params = fit(functools.partial(model.apply, train=False), variables, inputs)
    with leaves.stated_by(model):
        opt_state = optimizers.build(config, hyperparameters, step=0).init(params)
    batch_stats = variables.get("batch_stats", {})
    check_freeze(config, params, batch_stats)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        averages=averages.none_yet(config, params, batch_stats),
        preprocessing=jax.tree.map(jnp.asarray, statistics),
        hyperparameters=jax.tree.map(jnp.asarray, hyperparameters),
    )
