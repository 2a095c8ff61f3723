"""Measure how an activation changes a layer's width and the size of its signal.

So a new activation needs no entry in a table.
"""

from collections.abc import Callable
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.scipy.special import ndtri

_EXAMPLES = 8192


class _Alone(nn.Module):
    function: Callable

    @nn.compact
    def __call__(self, x):
        return self.function(x)


def widening(activation: Callable, width: int) -> Fraction:
    """Return how many features an activation takes for each that it returns.

    That is 2 for maxout of two pieces, and 1/2 for crelu.

    Args:
      activation: x (..., C) -> (..., D), may make flax parameters.
      width: a C that it takes.
    """
    result = jax.eval_shape(lambda: _apply(activation, jnp.zeros((1, width))))
    return Fraction(width, result.shape[-1])


def gain(activation: Callable, width: int) -> jax.Array:
    """Return 1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): the factor on weights that keeps the variance.

    He et al., 2015, eq. 8, has sqrt(2) for ReLU. Tables that reason otherwise differ: PyTorch's has
    5/3 for tanh (here 1.59) and 1 for sigmoid (here 1.85).

    Args:
      activation: x (..., C) -> (..., D); its numbers may be traced.
      width: a C that it takes.

    Returns:
      float32 scalar, by stratified draws: to 1e-3 if the activation is elementwise, else to 1e-2.
    """
    quantiles = ndtri((jnp.arange(_EXAMPLES) + 0.5) / _EXAMPLES)
    draws = np.random.default_rng(0)
    order = np.stack([draws.permutation(_EXAMPLES) for _ in range(width)], axis=1)
    return jax.lax.rsqrt(jnp.mean(jnp.square(_apply(activation, quantiles[order]))))


def _apply(activation, x):
    # Without a parent, because another module is being initialised.
    return _Alone(activation, parent=None).init_with_output(jax.random.key(0), x)[0]
