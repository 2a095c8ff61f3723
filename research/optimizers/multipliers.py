"""Multiply each parameter's learning rate, by patterns, depth, and freezing.

Running statistics of batch norm have no learning rate, but they are frozen with their layers.
"""

import functools
import operator
import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from research.config import Duration
from research.models import leaves
from research.models.leaves import compiled
from research.optimizers.masks import by_pattern, leaves_by_path

_FREEZE = "config.transfer.freeze"


def multipliers(config: ConfigDict, hyperparameters, params, step):
    """Return the factor on the learning rate of each parameter: a product of three factors.

    - `optimizer.multipliers`: (pattern, number) pairs; every parameter must be covered.
    - `optimizer.layer_decay`: to the power of the layers between a parameter and the head (Howard
      and Ruder, ULMFiT, 2018, section 3.2).
    - `transfer.freeze`: (pattern, duration) pairs: 0 until the duration is over.

    Returns:
      A tree like `params` of Python floats, or traced scalars; a plain 0.0 is never trained.

    Raises:
      UserError: a pattern that matches nothing; parameters that are not covered.
    """
    factors = _given(config, params)
    if config.optimizer.layer_decay != 1:
        decay = hyperparameters["optimizer"]["layer_decay"]
        factors = jax.tree.map(lambda f, leaf: f * decay**leaf.depth, factors, leaves.of(params))
    thawed = _thawed(config, hyperparameters, params, step)
    return jax.tree.map(lambda f, open_: 0.0 if open_ is False else f * open_, factors, thawed)


def never_trained(config: ConfigDict, hyperparameters, params):
    """Mark parameters that no step changes, so that their gradients need not be computed."""
    factors = multipliers(config, hyperparameters, params, 0)
    return jax.tree.map(lambda f: isinstance(f, (int, float)) and f == 0, factors)


def trained_now(config: ConfigDict, hyperparameters, params, step):
    """Mark parameters that the next step changes, by bools or traced bools."""
    return jax.tree.map(lambda f: f != 0, multipliers(config, hyperparameters, params, step))


def check_freeze(config: ConfigDict, params, batch_stats) -> None:
    """Refuse patterns of `transfer.freeze` that match no parameter and no running statistics.

    Raises:
      UserError: there is one.
    """
    names = [*leaves_by_path(params), *leaves_by_path(batch_stats)]
    for pattern, _ in config.transfer.freeze:
        compiled(_FREEZE, pattern, names)


def frozen_statistics(
    config: ConfigDict, hyperparameters, params, batch_stats, step
) -> dict[str, Any]:
    """Return the normalisers that keep their running statistics in the next step.

    A normaliser keeps its statistics if a pattern of `transfer.freeze` matches them
    ('BatchNorm_0/mean'). It also keeps them if all parameters of the normaliser and of its layer
    are frozen or have multiplier 0. Its layer is the affine map with the same number: Dense_0 or
    Conv_0 for BatchNorm_0.

    Args:
      config: static choices.
      hyperparameters: `TrainState.hyperparameters`.
      params: a tree, for its paths.
      batch_stats: a tree, for its paths.
      step: number of updates made so far.

    Returns:
      {'BatchNorm_0': True for good, or a traced bool scalar}; a normaliser that is not frozen at
      any step is left out.
    """
    if not config.transfer.freeze and not config.optimizer.multipliers:
        return {}
    thawed = _thawed(config, hyperparameters, params, step)
    factors = jax.tree.map(
        lambda f, open_: 0.0 if open_ is False or f == 0 else f * open_,
        _given(config, params),
        thawed,
    )
    parameters = {path: factor == 0 for path, factor in leaves_by_path(factors).items()}
    statistics = dict.fromkeys(leaves_by_path(batch_stats), 0)
    statistics = _thawed(config, hyperparameters, statistics, step)
    matched: dict[str, list] = {}
    for path, factor in statistics.items():
        matched.setdefault(path.rpartition("/")[0], []).append(factor == 0)
    frozen = {}
    for module, stays in matched.items():
        layer = [still for path, still in parameters.items() if path.startswith(_layer(module))]
        frozen[module] = _any([_all(layer or [False]), *stays])
    return {module: still for module, still in frozen.items() if still is not False}


def _given(config: ConfigDict, params):
    """Return the numbers of `config.optimizer.multipliers`; 1 without them."""
    if not config.optimizer.multipliers:
        return jax.tree.map(lambda _: 1.0, params)
    return by_pattern("config.optimizer.multipliers", config.optimizer.multipliers, params)


def _thawed(config, hyperparameters, tree, step):
    """Return for each leaf False if it is frozen for good, a traced 0 or 1 if for a while, else 1.

    Patterns may be of parameters or of running statistics. Those that match no leaf of this tree
    are ignored (`check_freeze` refuses those that match neither).
    """
    names = list(leaves_by_path(tree))
    until = hyperparameters["transfer"]["thaw"]
    pairs = []
    for number, (pattern, duration) in enumerate(config.transfer.freeze):
        if not any(re.fullmatch(pattern, name) for name in names):
            continue
        parsed = Duration.parse(duration, "transfer.freeze")
        whole = parsed.unit == "percent" and parsed.amount >= 100
        pairs.append((pattern, False if whole else jnp.float32(step >= until[number])))
    return by_pattern(_FREEZE, pairs, tree, default=1.0)


def _layer(normalizer: str) -> tuple[str, ...]:
    """Return the prefixes of the paths of a normaliser and of the affine map before it."""
    scope, slash, name = normalizer.rpartition("/")
    number = name.rpartition("_")[2]
    maps = (f"{scope}{slash}{kind}_{number}/" for kind in ("Dense", "Conv"))
    return (f"{normalizer}/", *maps)


def _all(flags: Sequence):
    """Return whether all flags hold: a bool if it does not depend on traced ones."""
    if any(flag is False for flag in flags):
        return False
    return functools.reduce(operator.and_, flags, True)


def _any(flags: Sequence):
    """Return whether any flag holds: a bool if it does not depend on traced ones."""
    if any(flag is True for flag in flags):
        return True
    return functools.reduce(operator.or_, flags, False)
