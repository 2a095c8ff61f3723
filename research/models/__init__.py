"""Models: `config.model.name` is a file of this folder with a `build` function."""

import importlib
import pkgutil
from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from research.errors import unknown_name
from research.models.layers import Layers


def build(
    config: ConfigDict, hyperparameters, outputs: int, frozen: Mapping[str, Any] | None = None
) -> nn.Module:
    """Build the model of a config anew in every trace, with traced numbers inside.

    Args:
      config: the whole config; `config.model` names the parts and gives the sizes.
      hyperparameters: `TrainState.hyperparameters`, traced.
      outputs: number of the head's outputs: of classes, labels, numbers, or tokens.
      frozen: the result of `optimizers.multipliers.frozen_statistics`: the normalisers that use
        their running statistics in training too.

    Returns:
      A module to be called as `model.apply(variables, inputs, train=...)`.

    Raises:
      UserError: an unknown name, or sizes that the model does not have.
    """
    numbers = hyperparameters["model"]
    if frozen and not config.model.freeze_batch_stats:
        numbers = {**numbers, "freeze_batch_stats": lambda path: frozen.get(path, False)}
    layers = Layers.from_config(config.model, numbers, config.compute.remat, config.compute.dtype)
    name = config.model.name
    if name not in names():
        raise unknown_name("config.model.name", name, names())
    module = importlib.import_module(f"{__name__}.{name}")
    return module.build(config.model, layers, outputs)


def names() -> list[str]:
    """Return the names of all models: the files of this folder that define `build`."""
    files = (info.name for info in pkgutil.iter_modules(__path__))
    return [
        name for name in files if hasattr(importlib.import_module(f"{__name__}.{name}"), "build")
    ]
