"""What each parameter's learning rate is multiplied by: patterns, depth, and freezing."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from research.config import Duration
from research.optimizers.masks import by_pattern, layer_depths


def multipliers(config: ConfigDict, hyperparameters, params, step):
    """The product of what `config.optimizer` and `config.transfer.freeze` ask for.

    - `optimizer.multipliers`: (pattern, number) pairs; every parameter must be covered.
    - `optimizer.layer_decay`: to the power of the layers between a parameter and the head (Howard
      and Ruder, ULMFiT, 2018, section 3.2).
    - `transfer.freeze`: (pattern, duration) pairs: 0 until then.

    Returns:
      A tree like `params` of Python floats, or traced scalars; a plain 0.0 is never trained.

    Raises:
      UserError: a pattern that matches nothing; parameters that are not covered.
    """
    factors = jax.tree.map(lambda _: 1.0, params)
    if config.optimizer.multipliers:
        pairs = config.optimizer.multipliers
        factors = by_pattern("config.optimizer.multipliers", pairs, params)
    if config.optimizer.layer_decay != 1:
        decay = hyperparameters["optimizer"]["layer_decay"]
        factors = jax.tree.map(lambda f, depth: f * decay**depth, factors, layer_depths(params))
    thawed = _thawed(config, hyperparameters, params, step)
    return jax.tree.map(lambda f, open_: 0.0 if open_ is False else f * open_, factors, thawed)


def never_trained(config: ConfigDict, hyperparameters, params):
    """Marks parameters that no step changes, so that their gradients need not be computed."""
    factors = multipliers(config, hyperparameters, params, 0)
    return jax.tree.map(lambda f: isinstance(f, (int, float)) and f == 0, factors)


def trained_now(config: ConfigDict, hyperparameters, params, step):
    """Marks parameters that the next step changes; with bools, or traced ones."""
    return jax.tree.map(lambda f: f != 0, multipliers(config, hyperparameters, params, step))


def _thawed(config, hyperparameters, params, step):
    pairs = []
    until = hyperparameters["transfer"]["thaw"]
    for number, (pattern, duration) in enumerate(config.transfer.freeze):
        parsed = Duration.parse(duration, "transfer.freeze")
        whole = parsed.unit == "percent" and parsed.amount >= 100
        pairs.append((pattern, False if whole else jnp.float32(step >= until[number])))
    return by_pattern("config.transfer.freeze", pairs, params, default=1.0)
