"""Residual networks (He et al., 2015): the thin ones for CIFAR, and ResNet-18/50 for ImageNet."""

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from research.data.checks import grey_hint
from research.errors import UserError
from research.models.layers import Layers

# Keys of `config.model` that not every model uses.
USES = ("depth", "residual", "stochastic_depth_rate", "conv_groups")
_CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
_IMAGENET_STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut (figure 5, left)."""

    layers: Layers
    channels: int
    strides: int
    project: bool  # 1 x 1 convolution on a changing shortcut (option B), else zeros (option A)
    number: int  # of the block, from 1
    blocks: int  # in all

    @nn.compact
    def __call__(self, x, train: bool):
        """Map (B, H, W, C) to (B, H / strides, W / strides, channels)."""
        layers = self.layers
        first, last = layers.branch_scales(2, self.blocks)
        groups = layers.model.conv_groups
        y = layers.conv(x, self.channels, train, strides=self.strides, scale=first, groups=groups)
        y = layers.activate(y, train)
        y = layers.conv(y, self.channels, train, scale=last, groups=groups)
        return _joined(self, x, y, train, self.channels)


class BottleneckBlock(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 convolutions and a shortcut (figure 5, right).

    The stride sits in the 3 x 3 convolution ("v1.5", as in torchvision), which is a little more
    accurate than in the paper.
    """

    layers: Layers
    channels: int
    strides: int
    project: bool
    number: int
    blocks: int

    @nn.compact
    def __call__(self, x, train: bool):
        """Map (B, H, W, C) to (B, H / strides, W / strides, 4 * channels)."""
        layers = self.layers
        first, second, last = layers.branch_scales(3, self.blocks)
        y = layers.conv(x, self.channels, train, kernel_size=1, scale=first)
        y = layers.activate(y, train)
        groups = layers.model.conv_groups
        y = layers.conv(y, self.channels, train, strides=self.strides, scale=second, groups=groups)
        y = layers.activate(y, train)
        y = layers.conv(y, 4 * self.channels, train, kernel_size=1, scale=last)
        return _joined(self, x, y, train, 4 * self.channels)


class ResNet(nn.Module):
    """Map images (B, H, W, C) to outputs (B, outputs)."""

    layers: Layers
    block: type[nn.Module]
    stages: tuple[int, ...]  # blocks in each
    channels: int  # of the first stage; doubled at each
    imagenet: bool  # 7 x 7 stem with pooling and projections, else a 3 x 3 stem
    outputs: int

    @nn.compact
    def __call__(self, x, train: bool):
        """Map float images (B, H, W, C) to outputs (B, outputs)."""
        if x.ndim != 4:
            raise UserError(
                f"config.model.name = 'resnet' takes images, the data have shape {x.shape[1:]} "
                f"(allowed here: mlp, which takes any shape{grey_hint(x.shape[1:])})"
            )
        layers = self.layers
        x = layers.inputs(x, train)
        stem = {"kernel_size": 7, "strides": 2} if self.imagenet else {}
        x = layers.activate(layers.conv(x, self.channels, train, **stem), train)
        if self.imagenet:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))

        def block(_, x, stage, number):
            return self.block(
                layers,
                channels=self.channels * 2**stage,
                strides=2 if stage > 0 and number == 0 else 1,
                project=self.imagenet,
                number=sum(self.stages[:stage]) + number + 1,
                blocks=sum(self.stages),
                name=f"stage{stage + 1}_block{number + 1}",
            )(x, train)

        for stage, blocks in enumerate(self.stages):
            for number in range(blocks):
                x = layers.block(block, self, x, stage, number)
        x = layers.dropout(x.mean((1, 2)), train)
        return layers.head(self.outputs)(x)


def build(model: ConfigDict, layers: Layers, outputs: int) -> ResNet:
    """Return the model of `config.model`.

    Raises:
      UserError: a depth that the paper does not have, or residual branches that do not fit.
    """
    depth = model.depth
    if model.residual != "plain" and (model.residual == "fixup") != (model.normalization == "none"):
        raise UserError(
            f"config.model.residual = {model.residual!r} does not go with config.model."
            f"normalization = {model.normalization!r} (allowed: 'fixup' with 'none', 'zero_gamma' "
            "with a normaliser, 'plain')"
        )
    if depth in _CIFAR_DEPTHS:
        blocks = (depth - 2) // 6
        return ResNet(layers, BasicBlock, (blocks,) * 3, 16, imagenet=False, outputs=outputs)
    if depth in _IMAGENET_STAGES:
        block = BasicBlock if depth == 18 else BottleneckBlock
        return ResNet(layers, block, _IMAGENET_STAGES[depth], 64, imagenet=True, outputs=outputs)
    allowed = sorted([*_CIFAR_DEPTHS, *_IMAGENET_STAGES])
    raise UserError(
        f"config.model.depth = {depth} is unknown (allowed: {', '.join(map(str, allowed))})"
    )


def _joined(block, x, y, train: bool, channels: int):
    """Add branch y to shortcut x, and activate the sum, which has `channels` channels."""
    layers = block.layers
    y = layers.branch(y, train, depth=block.number / block.blocks)
    width = y.shape[-1]
    if block.strides > 1 or x.shape[-1] != width:
        if block.project or x.shape[-1] > width:
            x = layers.conv(x, channels, train, kernel_size=1, strides=block.strides)
            x = layers.norm(x, train)
        else:
            x = x[:, :: block.strides, :: block.strides]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, width - x.shape[-1])))
    return layers.activation(x + y)
