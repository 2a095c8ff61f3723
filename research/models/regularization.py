"""Add noise to activations, by name: (x, train, *, dropout_rate) -> the same shape and dtype.

Noise acts in training only, from the rng stream 'dropout'. The functions are called inside
`@nn.compact`. The rate may be traced.
"""

import jax.numpy as jnp

from research.models.noise import Noise, zeroed


def dropout(x, train, *, dropout_rate):
    """Set numbers to 0 with probability p, divide the others by 1 - p (Srivastava et al., 2014).

    This is "inverted" dropout: evaluation needs no correction.
    """
    return Noise(zeroed)(x, train, dropout_rate, x.shape)


def spatial_dropout(x, train, *, dropout_rate):
    """Apply `dropout` to whole channels of an image at once (Tompson et al., 2015)."""
    mask = (x.shape[0], *(1 for _ in x.shape[1:-1]), x.shape[-1])
    return Noise(zeroed)(x, train, dropout_rate, mask)


def alpha_dropout(x, train, *, dropout_rate):
    """Set numbers to the lower limit of `selu`, then restore mean 0 and variance 1.

    y = a (x d + (1 - d) alpha') + b, d ~ Bernoulli(1 - p), alpha' = -1.7581,
    a = ((1 - p) (1 + p alpha'^2))^(-1/2), b = -a p alpha' (Klambauer et al., 2017, section 3).
    """
    return Noise(_limited)(x, train, dropout_rate, x.shape)


_SELU_LIMIT = -1.7580993408473766  # the limit of selu(x) for x -> -inf: -scale * alpha


def _limited(x, keep, rate):
    a = ((1 - rate) * (1 + rate * _SELU_LIMIT**2)) ** -0.5
    return a * jnp.where(keep, x, _SELU_LIMIT) - a * rate * _SELU_LIMIT
