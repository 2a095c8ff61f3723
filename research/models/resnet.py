"""Residual networks (He et al., 2015): the thin ones for CIFAR, and ResNet-18/50 for ImageNet."""

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from research.errors import UserError
from research.models.layers import Layers
from research.models.pooling import global_avg_pool

_CIFAR_DEPTHS = (20, 32, 44, 56, 110)
_IMAGENET_STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (figure 5, left)."""

    layers: Layers
    channels: int
    strides: int
    project: bool  # 1 x 1 convolution on a changing shortcut (option B), else zeros (option A)

    @nn.compact
    def __call__(self, x, train: bool):
        """(B, H, W, C) -> (B, H / strides, W / strides, channels)."""
        layers = self.layers
        y = layers.conv(self.channels, strides=self.strides)(x)
        y = layers.activation(layers.norm(y, train))
        y = layers.norm(layers.conv(self.channels)(y), train)
        return layers.activation(y + _shortcut(self, x, y.shape[-1], train))


class BottleneckBlock(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut (figure 5, right).

    The stride sits in the 3 x 3 convolution ("v1.5", as in torchvision), which is a little more
    accurate than in the paper.
    """

    layers: Layers
    channels: int
    strides: int
    project: bool

    @nn.compact
    def __call__(self, x, train: bool):
        """(B, H, W, C) -> (B, H / strides, W / strides, 4 * channels)."""
        layers = self.layers
        y = layers.activation(layers.norm(layers.conv(self.channels, 1)(x), train))
        y = layers.conv(self.channels, strides=self.strides)(y)
        y = layers.activation(layers.norm(y, train))
        y = layers.norm(layers.conv(4 * self.channels, 1)(y), train)
        return layers.activation(y + _shortcut(self, x, y.shape[-1], train))


class ResNet(nn.Module):
    """Images (B, H, W, C) to logits (B, classes)."""

    layers: Layers
    block: type[nn.Module]
    stages: tuple[int, ...]  # blocks in each
    channels: int  # of the first stage; doubled at each
    imagenet: bool  # 7 x 7 stem with pooling and projections, else a 3 x 3 stem
    classes: int

    @nn.compact
    def __call__(self, x, train: bool):
        """Float images (B, H, W, C) -> logits (B, classes)."""
        if x.ndim != 4:
            raise UserError(
                f"config.model.name = 'resnet' takes images, the data have shape {x.shape[1:]} "
                "(allowed here: mlp, which takes any shape)"
            )
        layers = self.layers
        x = (
            layers.conv(self.channels, 7, strides=2)(x)
            if self.imagenet
            else layers.conv(self.channels)(x)
        )
        x = layers.activation(layers.norm(x, train))
        if self.imagenet:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.stages):
            for number in range(blocks):
                x = self.block(
                    layers,
                    channels=self.channels * 2**stage,
                    strides=2 if stage > 0 and number == 0 else 1,
                    project=self.imagenet,
                    name=f"stage{stage + 1}_block{number + 1}",
                )(x, train)
        x = layers.dropout(global_avg_pool(x), train)
        return layers.head(self.classes)(x)


def build(model: ConfigDict, layers: Layers, classes: int) -> ResNet:
    """The model of `config.model`.

    Raises:
      UserError: a depth that is none of the paper's.
    """
    depth = model.depth
    if depth in _CIFAR_DEPTHS:
        blocks = (depth - 2) // 6
        return ResNet(layers, BasicBlock, (blocks,) * 3, 16, imagenet=False, classes=classes)
    if depth in _IMAGENET_STAGES:
        block = BasicBlock if depth == 18 else BottleneckBlock
        return ResNet(layers, block, _IMAGENET_STAGES[depth], 64, imagenet=True, classes=classes)
    allowed = sorted([*_CIFAR_DEPTHS, *_IMAGENET_STAGES])
    raise UserError(
        f"config.model.depth = {depth} is unknown (allowed: {', '.join(map(str, allowed))})"
    )


def _shortcut(block, x, channels: int, train: bool):
    if block.strides == 1 and x.shape[-1] == channels:
        return x
    if block.project:
        x = block.layers.conv(channels, 1, strides=block.strides)(x)
        return block.layers.norm(x, train)
    x = x[:, :: block.strides, :: block.strides]
    return jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, channels - x.shape[-1])))
