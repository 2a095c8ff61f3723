"""Build models: `config.model.name` is a file of this folder with a `build` function.

The name may also be a dotted name: a module with `build`, a Flax module, or a function that makes
one. It is called by keyword with those of `model` (`config.model`), `layers` (`Layers`) and
`outputs` that it takes, and with `config.model.options`. From Python a module itself may be passed
in.
"""

import sys
from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from ml_collections import ConfigDict

from research.models.layers import Layers
from research.names import call, choices, is_dotted, resolve


def build(
    config: ConfigDict, hyperparameters, outputs: int, frozen: Mapping[str, Any] | None = None
) -> nn.Module:
    """Return the model of a config, with traced numbers inside; each trace builds it again.

    Args:
      config: the whole config; `config.model` names the parts and gives the sizes.
      hyperparameters: `TrainState.hyperparameters`, traced.
      outputs: number of the head's outputs: of classes, labels, numbers, or tokens.
      frozen: from `optimizers.multipliers.frozen_statistics`: normalisers that use their running
        statistics in training too.

    Returns:
      A module to be called as `model.apply(variables, inputs, train=...)`.

    Raises:
      UserError: an unknown name, or sizes that the model does not have.
    """
    numbers = hyperparameters["model"]
    if frozen and not config.model.freeze_batch_stats:
        numbers = {**numbers, "freeze_batch_stats": lambda path: frozen.get(path, False)}
    layers = Layers.from_config(config.model, numbers, config.compute.remat, config.compute.dtype)
    builder = resolve("config.model.name", config.model.name, sys.modules[__name__])
    if isinstance(builder, nn.Module):
        return builder
    if is_dotted(config.model.name):
        return call(builder, config.model, model=config.model, layers=layers, outputs=outputs)
    return builder.build(config.model, layers, outputs)


def names() -> list[str]:
    """Return the names of the models: the files of this folder that define `build`."""
    return list(choices(sys.modules[__name__]))
