"""What all models are made of: the choices of `config.model`, resolved once and handed down."""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from ml_collections import ConfigDict

from research.models import activations, initializers, normalization
from research.models.conv import Conv
from research.models.dense import Dense
from research.models.regularization import Dropout
from research.names import bind, resolve


@dataclasses.dataclass(frozen=True)
class Layers:
    """The vocabulary a model is written in; its methods are called inside `@nn.compact`.

    Normalised layers have no bias of their own: the normaliser's does its work.
    """

    activation: Callable  # x -> x
    norm: Callable  # (x, train) -> x
    kernel_init: Callable
    dropout_rate: float | jax.Array
    use_bias: bool

    @classmethod
    def from_config(cls, model: ConfigDict, numbers) -> "Layers":
        """Resolves the names of `config.model`.

        Args:
          model: `config.model`.
          numbers: the traced numbers of `config.model`.

        Raises:
          UserError: an unknown activation, normalization or initializer.
        """

        def named(key, module):
            return bind(resolve(f"config.model.{key}", model[key], module), model, numbers)

        initializer = named("initializer", initializers)

        def kernel_init(key, shape, dtype=jnp.float32):
            return numbers["initializer_scale"] * initializer(key, shape, dtype)

        return cls(
            activation=named("activation", activations),
            norm=named("normalization", normalization),
            kernel_init=kernel_init,
            dropout_rate=numbers["dropout_rate"] if model.dropout_rate else 0.0,
            use_bias=model.normalization == "none",
        )

    def dense(self, features: int) -> nn.Module:
        """A hidden dense layer."""
        return Dense(features, use_bias=self.use_bias, kernel_init=self.kernel_init)

    def conv(self, features: int, kernel_size: int = 3, strides: int = 1) -> nn.Module:
        """A hidden convolution with a square kernel and 'SAME' padding."""
        return Conv(
            features,
            kernel_size=(kernel_size, kernel_size),
            strides=strides,
            use_bias=self.use_bias,
            kernel_init=self.kernel_init,
        )

    def dropout(self, x, train: bool):
        """Dropout at the config's rate."""
        return Dropout(self.dropout_rate)(x, train)

    def head(self, classes: int) -> nn.Module:
        """The last layer: small weights, so that the loss starts at log(classes)."""
        return Dense(classes, kernel_init=initializers.small_normal, name="head")
