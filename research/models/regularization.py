"""Noise on activations by name: (x, train, *, dropout_rate) -> array of the same shape and dtype.

In training only, from the rng stream 'dropout'; called inside `@nn.compact`. The rate may be
traced.
"""

import jax.numpy as jnp

from research.models.noise import Noise, zeroed


def dropout(x, train, *, dropout_rate):
    """Zeroes each number with probability p, divides the others by 1 - p (Srivastava et al., 2014).

    "Inverted": evaluation needs no correction.
    """
    return Noise(zeroed)(x, train, dropout_rate, x.shape)


def spatial_dropout(x, train, *, dropout_rate):
    """As `dropout`, whole channels of an image at once (Tompson et al., 2015)."""
    mask = (x.shape[0], *(1 for _ in x.shape[1:-1]), x.shape[-1])
    return Noise(zeroed)(x, train, dropout_rate, mask)


def alpha_dropout(x, train, *, dropout_rate):
    """For `selu`: sets to its lower limit, then restores mean 0 and variance 1.

    y = a (x d + (1 - d) alpha') + b, d ~ Bernoulli(1 - p), alpha' = -1.7581,
    a = ((1 - p) (1 + p alpha'^2))^(-1/2), b = -a p alpha' (Klambauer et al., 2017, section 3).
    """
    return Noise(_limited)(x, train, dropout_rate, x.shape)


_SELU_LIMIT = -1.7580993408473766  # of selu(x) for x -> -inf: -scale * alpha


def _limited(x, keep, rate):
    a = ((1 - rate) * (1 + rate * _SELU_LIMIT**2)) ** -0.5
    return a * jnp.where(keep, x, _SELU_LIMIT) - a * rate * _SELU_LIMIT
