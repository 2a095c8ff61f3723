"""A small convolutional net: stages of convolution, normaliser, activation and pooling; a head."""

import math

from flax import linen as nn
from ml_collections import ConfigDict

from research.data.checks import grey_hint
from research.errors import UserError
from research.models.layers import Layers

# Keys of `config.model` that not every model uses.
USES = ("channels", "pooling", "conv_groups")


class CNN(nn.Module):
    """Map images (B, H, W, C) to outputs (B, outputs); each stage divides height and width."""

    layers: Layers
    channels: tuple[int, ...]
    outputs: int
    groups: int = 1  # of channels in all convolutions but the first

    @nn.compact
    def __call__(self, x, train: bool):
        """Map float images (B, H, W, C) to outputs (B, outputs)."""
        _check_images(x, "cnn")
        x = self.layers.inputs(x, train)

        def stage(_, x, channels, groups):
            x = self.layers.conv(x, channels, train, groups=groups)
            x = self.layers.activate(x, train)
            return self.layers.pool(x, train)

        for number, channels in enumerate(self.channels):  # no groups on the image
            x = self.layers.block(stage, self, x, channels, self.groups if number else 1)
        x = self.layers.dropout(x, train)  # still images, because some noise drops whole channels
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))
        return self.layers.head(self.outputs)(x)


def build(model: ConfigDict, layers: Layers, outputs: int) -> CNN:
    """Return the model of `config.model`."""
    return CNN(layers, tuple(model.channels), outputs, model.conv_groups)


def _check_images(x, name: str) -> None:
    if x.ndim != 4:
        raise UserError(
            f"config.model.name = {name!r} takes images, the data have shape {x.shape[1:]} "
            f"(allowed here: mlp, which takes any shape{grey_hint(x.shape[1:])})"
        )
