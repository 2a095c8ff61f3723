"""A small convolutional net: stages of conv, normalise, activate, pool; then a linear head."""

import math

from flax import linen as nn
from ml_collections import ConfigDict

from research.data.checks import grey_hint
from research.errors import UserError
from research.models.layers import Layers


class CNN(nn.Module):
    """Images (B, H, W, C) to logits (B, classes); each stage divides height and width."""

    layers: Layers
    channels: tuple[int, ...]
    classes: int

    @nn.compact
    def __call__(self, x, train: bool):
        """Float images (B, H, W, C) -> logits (B, classes)."""
        _check_images(x, "cnn")
        x = self.layers.inputs(x, train)

        def stage(_, x, channels):
            x = self.layers.conv(x, channels, train)
            x = self.layers.activate(x, train)
            return self.layers.pool(x, train)

        for channels in self.channels:
            x = self.layers.block(stage, self, x, channels)
        x = self.layers.dropout(x, train)  # of images still, for what drops whole channels
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        return self.layers.head(self.classes)(x)


def build(model: ConfigDict, layers: Layers, classes: int) -> CNN:
    """The model of `config.model`."""
    return CNN(layers, tuple(model.channels), classes)


def _check_images(x, name: str) -> None:
    if x.ndim != 4:
        raise UserError(
            f"config.model.name = {name!r} takes images, the data have shape {x.shape[1:]} "
            f"(allowed here: mlp, which takes any shape{grey_hint(x.shape[1:])})"
        )
