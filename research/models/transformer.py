"""A pre-norm transformer (Vaswani et al., 2017; Xiong et al., 2020) over patches or tokens."""

import math

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from research.errors import UserError
from research.models.layers import Layers

USES = (
    "blocks",
    "width",
    "heads",
    "expansion",
    "patch_size",
    "causal",
    "stochastic_depth_rate",
)
_MIXES_POSITIONS = ("batch_norm", "group_norm", "instance_norm")


class Block(nn.Module):
    """Add attention to x, then a perceptron at each position.

    x <- x + attention(norm(x)); x <- x + contract(activation(expand(norm(x)))).
    """

    layers: Layers
    heads: int
    expansion: int
    causal: bool
    depth: float  # of the block, from 0 to 1: deeper ones are dropped more often
    scale: float  # multiplies the initial kernel of the last map of both branches

    @nn.compact
    def __call__(self, x, train: bool):
        """Map (B, T, C) to (B, T, C)."""
        layers = self.layers
        y = self._attention(layers.norm(x, train), train)
        x = x + layers.drop_path(layers.dropout(y, train), train, self.depth)
        y = layers.affine(layers.norm(x, train), self.expansion * x.shape[-1], train, "expand",
                          activated=True)  # fmt: skip
        y = layers.affine(layers.activation(y), x.shape[-1], train, "contract", scale=self.scale)
        return x + layers.drop_path(layers.dropout(y, train), train, self.depth)

    def _attention(self, x, train: bool):
        """Return softmax(q k^T / sqrt(channels of a head)) v, for each head."""
        batch, length, width = x.shape
        query, key, value = (
            self.layers.affine(x, width, train, name).reshape(
                batch, length, self.heads, width // self.heads
            )
            for name in ("query", "key", "value")
        )
        mask = jnp.tril(jnp.ones((1, 1, length, length), bool)) if self.causal else None
        weights = nn.dot_product_attention_weights(
            query, key, mask=mask, force_fp32_for_softmax=True
        )
        y = jnp.einsum("bhqk,bkhd->bqhd", weights.astype(x.dtype), value)
        return self.layers.affine(y.reshape(x.shape), width, train, "out", scale=self.scale)


class Norm(nn.Module):
    """Apply the normaliser as a module, so that it has a name."""

    layers: Layers

    @nn.compact
    def __call__(self, x, train: bool):
        """Map (..., C) to (..., C)."""
        return self.layers.norm(x, train)


class Transformer(nn.Module):
    """Map images (B, H, W, C) to outputs (B, outputs), or tokens (B, T) to outputs (B, T, outputs).

    Images are cut into patches, and the last states of all patches are averaged. A class token
    instead would be one more parameter and no more accurate (Beyer et al., 2022).
    """

    layers: Layers
    width: int
    blocks: int
    heads: int
    patch_size: int
    expansion: int
    causal: bool | None  # None: for tokens
    outputs: int

    @nn.compact
    def __call__(self, x, train: bool):
        """Map float images (B, H, W, C) or int tokens (B, T) to the outputs."""
        layers, tokens = self.layers, jnp.issubdtype(x.dtype, jnp.integer)
        causal = tokens if self.causal is None else self.causal
        self._check(x, tokens, causal)
        x = self._embedded(x) if tokens else self._patches(layers.inputs(x, train), train)
        x = layers.dropout(x + self._positions(x), train)

        def block(_, x, number):
            return Block(
                layers,
                heads=self.heads,
                expansion=self.expansion,
                causal=causal,
                depth=number / self.blocks,
                # So the sum of 2 n branches has the variance of one (Radford et al., 2019, 2.3).
                scale=(2 * self.blocks) ** -0.5,
                name=f"block{number}",
            )(x, train)

        for number in range(1, self.blocks + 1):
            x = layers.block(block, self, x, number)
        x = Norm(layers, name="head_norm")(x, train)
        return layers.head(self.outputs)(x if tokens else x.mean(1))

    def _embedded(self, tokens):
        """Return a learned vector for each token: int (B, T) -> (B, T, width)."""
        embed = nn.Embed(
            self.outputs, self.width, embedding_init=nn.initializers.normal(0.02), name="tokens"
        )
        return embed(tokens).astype(self.layers.dtype)

    def _patches(self, x, train: bool):
        """Return an affine map of each patch: (B, H, W, C) -> (B, patches, width)."""
        batch, height, width, channels = x.shape
        size = self.patch_size
        x = x.reshape(batch, height // size, size, width // size, size, channels).swapaxes(2, 3)
        x = x.reshape(batch, (height // size) * (width // size), size * size * channels)
        return self.layers.affine(x, self.width, train, "patches")

    def _positions(self, x):
        """Return a learned vector for each position; sequences may be shorter than the first."""
        name, longest = "position_embedding", x.shape[1]
        if self.has_variable("params", name):
            longest = self.get_variable("params", name).shape[0]
        if x.shape[1] > longest:
            raise UserError(
                f"a sequence of {x.shape[1]} tokens is longer than the {longest} that the "
                "transformer has positions for (allowed: at most so many)"
            )
        init = nn.initializers.normal(0.02)
        table = self.param(name, init, (longest, self.width), jnp.float32)
        return table[: x.shape[1]].astype(x.dtype)

    def _check(self, x, tokens: bool, causal: bool) -> None:
        if x.ndim != (2 if tokens else 4):
            raise UserError(
                f"config.model.name = 'transformer' takes images or rows of tokens, the data have "
                f"shape {x.shape[1:]} and dtype {x.dtype} (allowed here: mlp, which takes any "
                "shape of floats)"
            )
        if not tokens and (x.shape[1] % self.patch_size or x.shape[2] % self.patch_size):
            common = math.gcd(*x.shape[1:3])
            allowed = [str(size) for size in range(1, common + 1) if common % size == 0]
            raise UserError(
                f"config.model.patch_size = {self.patch_size} does not divide images of "
                f"{x.shape[1]} x {x.shape[2]} pixels (allowed: {', '.join(allowed)})"
            )
        normalization = self.layers.model.normalization
        if causal and normalization in _MIXES_POSITIONS:
            raise UserError(
                f"config.model.normalization = {normalization!r} takes statistics over positions, "
                "so a causal transformer would see the future (allowed: layer_norm, none)"
            )


def build(model: ConfigDict, layers: Layers, outputs: int) -> Transformer:
    """Return the model of `config.model`.

    Raises:
      UserError: heads that do not divide the width, or residual branches that do not fit.
    """
    if model.width % model.heads:
        raise UserError(
            f"config.model.heads = {model.heads} does not divide config.model.width = "
            f"{model.width} (allowed: divisors, such as {math.gcd(model.width, model.heads)})"
        )
    if model.residual != "plain":
        raise UserError(
            f"config.model.residual = {model.residual!r} is of resnet (allowed for transformer: "
            "'plain')"
        )
    return Transformer(
        layers,
        width=model.width,
        blocks=model.blocks,
        heads=model.heads,
        patch_size=model.patch_size,
        expansion=model.expansion,
        causal={"auto": None, "yes": True, "no": False}[model.causal],
        outputs=outputs,
    )
