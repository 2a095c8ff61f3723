"""Share the code of all noise layers, and drop residual branches."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn

from research import batch_axis


class Noise(nn.Module):
    """Apply `function(x, keep, rate)` in training; `keep` is a random mask, True at 1 - rate.

    `rate` may be traced; the mask comes from the rng stream 'dropout'.
    """

    function: Callable

    @nn.compact
    def __call__(self, x, train: bool, rate, mask_shape):
        """Return x (B, ...) with noise; the mask shape (B, ...) broadcasts to that of x."""
        if not train:
            return x
        draw = functools.partial(jax.random.bernoulli, self.make_rng("dropout"), 1 - rate)
        keep = batch_axis.drawn(draw, mask_shape)
        return self.function(x, keep, rate).astype(x.dtype)


def zeroed(x, keep, rate):
    """Set what is not kept to 0, and divide the rest by 1 - rate, so that the mean stays."""
    return jnp.where(keep, x / (1 - rate), 0)


def drop_path(x, train, rate):
    """Drop a whole residual branch, example by example (stochastic depth; Huang et al., 2016)."""
    return Noise(zeroed)(x, train, rate, (x.shape[0], *(1 for _ in x.shape[1:])))
