"""Noise that regularises: layers that act in training only."""

import jax
import jax.numpy as jnp
from flax import linen as nn


class Dropout(nn.Module):
    """Inverted dropout (Srivastava et al., 2014): each number is zeroed with probability `rate`,
    the others divided by 1 - rate, so that evaluation needs no correction.

    `rate` may be traced; a plain Python 0 leaves no trace in the program. The mask comes from the
    rng stream 'dropout'.
    """  # noqa: D205

    rate: float | jax.Array

    @nn.compact
    def __call__(self, x, train: bool):
        """X (...) -> same shape and dtype."""
        if not train or (isinstance(self.rate, float) and self.rate == 0.0):
            return x
        keep = jax.random.bernoulli(self.make_rng("dropout"), 1 - self.rate, x.shape)
        return jnp.where(keep, x / (1 - self.rate), 0).astype(x.dtype)
