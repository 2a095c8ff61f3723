"""What all noise layers share, and the dropping of residual branches."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from research import batch_axis


class Noise(nn.Module):
    """Applies `function(x, keep, rate)` in training, `keep` a random mask, True at 1 - rate.

    `rate` may be traced; the mask comes from the rng stream 'dropout'.
    """

    function: Callable

    @nn.compact
    def __call__(self, x, train: bool, rate, mask_shape):
        """X (B, ...) and a mask shape (B, ...) that broadcasts to it -> shape and dtype of x."""
        if not train:
            return x
        draw = functools.partial(jax.random.bernoulli, self.make_rng("dropout"), 1 - rate)
        keep = batch_axis.drawn(draw, mask_shape)
        return self.function(x, keep, rate).astype(x.dtype)


def zeroed(x, keep, rate):
    """Zeroes what is not kept, divides the rest by 1 - rate, so that the mean stays."""
    return jnp.where(keep, x / (1 - rate), 0)


def drop_path(x, train, rate):
    """Stochastic depth (Huang et al., 2016): drops a whole residual branch, example by example."""
    return Noise(zeroed)(x, train, rate, (x.shape[0], *(1 for _ in x.shape[1:])))
