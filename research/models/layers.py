"""Build the layers of all models from the choices of `config.model`."""

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction

import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from research.errors import UserError
from research.models import activations, initializers, normalization, pooling, regularization
from research.models.conv import Conv
from research.models.dense import Dense
from research.models.gain import gain, widening
from research.models.kernels import drop_connect, standardized
from research.models.leaves import HEAD
from research.models.noise import Noise, drop_path, zeroed
from research.names import bind, resolve


class _Multiplier(nn.Module):
    """Multiply by one learned number, 1 at first."""

    @nn.compact
    def __call__(self, x):
        return x * self.param("scale", nn.initializers.ones, (), jnp.float32).astype(x.dtype)


@dataclasses.dataclass(frozen=True)
class Layers:
    """The layers of `config.model`; a model calls the methods inside `@nn.compact`.

    A layer has no bias if a normaliser, which has one, follows it.
    """

    model: ConfigDict
    numbers: dict
    activation: Callable  # x -> x
    normalization: Callable  # (x, train, scale_init) -> x
    noise: Callable  # (x, train) -> x
    pool: Callable  # images (x, train) -> smaller images
    initializer: Callable
    widening: Fraction  # features that the activation takes for each it gives
    remat: bool = False  # blocks are computed again in the backward pass
    dtype: str = "float32"  # of activations, for models whose inputs are whole numbers

    @classmethod
    def from_config(
        cls, model: ConfigDict, numbers, remat: bool = False, dtype: str = "float32"
    ) -> "Layers":
        """Resolve the names of `config.model`.

        Args:
          model: `config.model`.
          numbers: the traced numbers of `config.model`.
          remat: `config.compute.remat`.
          dtype: `config.compute.dtype`.

        Raises:
          UserError: an unknown activation, normalization, initializer or dropout.
        """

        def named(key, module):
            return bind(resolve(f"config.model.{key}", model[key], module), model, numbers)

        activation = named("activation", activations)
        return cls(
            model=model,
            numbers=numbers,
            activation=activation,
            normalization=named("normalization", normalization),
            noise=named("dropout", regularization),
            pool=named("pooling", pooling),
            initializer=named("initializer", initializers),
            widening=widening(activation, 2 * model.maxout_pieces),
            remat=remat,
            dtype=dtype,
        )

    def block(self, function: Callable, module: nn.Module, x, *sizes):
        """Return `function(module, x, *sizes)`, a part of a model.

        With `compute.remat` only x is kept for the backward pass, which computes everything between
        x and the result again: less memory for another forward pass (Chen et al., Training deep
        nets with sublinear memory cost, 2016).
        """
        if self.remat:
            function = nn.remat(function, static_argnums=tuple(range(2, 2 + len(sizes))))
        return function(module, x, *sizes)

    def inputs(self, x, train: bool):
        """Apply the noise on the inputs of the model."""
        rate = self.numbers["input_dropout_rate"]
        return Noise(zeroed)(x, train, rate, x.shape) if self.model.input_dropout_rate else x

    def dense(self, x, features: int, train: bool):
        """Apply a hidden dense layer that gives `features` once activated."""
        return Dense(self._widened(features), **self._affine(train))(x)

    def conv(self, x, features: int, train: bool, *, kernel_size=3, strides=1, scale=1.0, groups=1):
        """Apply a hidden convolution that gives `features` once activated.

        Args:
          x: images (B, H, W, C).
          features: channels, after the activation.
          train: whether noise acts.
          kernel_size: side of the square kernel, odd; padding keeps the size and is alike on all
            sides, as in PyTorch's ResNets ('SAME' is not, with strides).
          strides: in both directions.
          scale: multiplies the initial kernel.
          groups: of channels; each group of outputs sees one of inputs (ResNeXt, Xie et al., 2017).

        Raises:
          UserError: the groups do not divide the channels before and after.
        """
        widened = self._widened(features)
        if x.shape[-1] % groups or widened % groups:
            raise UserError(
                f"config.model.conv_groups = {groups} does not divide a convolution's "
                f"{x.shape[-1]} input and {widened} output channels (allowed: divisors of both, "
                f"such as {math.gcd(x.shape[-1], widened, groups)})"
            )
        return Conv(
            widened,
            groups=groups,
            kernel_size=(kernel_size, kernel_size),
            strides=strides,
            padding=kernel_size // 2,
            **self._affine(train, scale),
        )(x)

    def affine(self, x, features: int, train: bool, name: str, *, scale=1.0, activated=False):
        """Apply a hidden dense layer with a bias, which no normaliser follows.

        Args:
          x: (..., inputs).
          features: of the result; once activated, if it is.
          train: whether noise acts.
          name: of the layer.
          scale: multiplies the initial kernel.
          activated: whether an activation follows.
        """
        settings = self._affine(train, scale) | {"use_bias": True}
        if not activated or self.model.normalization != "none":
            settings["bias_init"] = nn.initializers.zeros
        return Dense(self._widened(features) if activated else features, **settings, name=name)(x)

    def norm(self, x, train: bool, scale_init: float = 1.0):
        """Apply the normaliser."""
        return self.normalization(x, train, scale_init).astype(x.dtype)

    def activate(self, x, train: bool):
        """Apply normaliser and activation, in the order of `config.model.norm_after_activation`."""
        if self.model.norm_after_activation:
            return self.norm(self.activation(x), train)
        return self.activation(self.norm(x, train))

    def dropout(self, x, train: bool):
        """Apply the noise of `config.model.dropout`; none at rate 0."""
        return self.noise(x, train) if self.model.dropout_rate else x

    def branch(self, x, train: bool, depth: float):
        """Apply the end of a residual branch: a normaliser, and stochastic depth.

        Args:
          x: output of the branch so far.
          train: whether noise acts.
          depth: of the block, from 0 to 1: deeper ones are dropped more often.
        """
        if self.model.residual == "fixup":
            x = _Multiplier()(x)
        else:
            x = self.norm(x, train, scale_init=float(self.model.residual != "zero_gamma"))
        return self.drop_path(x, train, depth)

    def drop_path(self, x, train: bool, depth: float):
        """Set the output of a residual branch to 0 for a random share of the examples in training.

        Args:
          x: output of the branch.
          train: whether noise acts.
          depth: of the block, from 0 to 1: deeper ones are dropped more often.
        """
        if not self.model.stochastic_depth_rate:
            return x
        return drop_path(x, train, depth * self.numbers["stochastic_depth_rate"])

    def head(self, outputs: int) -> nn.Module:
        """Return the last layer; its weights are small, so that a loss starts at log(outputs)."""
        return Dense(outputs, kernel_init=initializers.small_normal, name=HEAD)

    def branch_scales(self, affine_maps: int, blocks: int) -> tuple[float, ...]:
        """Return the factors on the initial kernels of the affine maps of a residual branch.

        They are 1, except for `residual = 'fixup'`: blocks^(-1 / (2 m - 2)) for the first m - 1 of
        the m affine maps, 0 for the last (Zhang et al., Fixup, 2019, section 3; its scalar biases
        are the convolutions' own here).
        """
        if self.model.residual != "fixup":
            return (1.0,) * affine_maps
        return (blocks ** (-1 / (2 * affine_maps - 2)),) * (affine_maps - 1) + (0.0,)

    def _widened(self, features: int) -> int:
        width = features * self.widening
        if width.denominator > 1:
            raise UserError(
                f"config.model.activation = {self.model.activation!r} cannot give {features} "
                f"features (allowed: multiples of {self.widening.denominator})"
            )
        return int(width)

    def _affine(self, train: bool, scale: float = 1.0) -> dict:
        bias = self.model.normalization == "none" or self.model.norm_after_activation
        drop = train and self.model.dropconnect_rate

        def transform(module, kernel):
            if self.model.weight_standardization:
                kernel = standardized(kernel)
            if drop:
                rate = self.numbers["dropconnect_rate"]
                kernel = drop_connect(module.make_rng("dropout"), kernel, rate)
            return kernel

        return {
            "use_bias": bias,
            "kernel_init": lambda *shape: scale * self._initial_kernel(*shape),
            "bias_init": nn.initializers.constant(self.numbers["initial_bias"]),
            "transform": transform,
        }

    def _initial_kernel(self, key, shape, dtype=jnp.float32):
        kernel = self.numbers["initializer_scale"] * self.initializer(key, shape, dtype)
        if self.model.activation_gain:
            kernel = gain(self.activation, 2 * self.model.maxout_pieces) * kernel
        return kernel
