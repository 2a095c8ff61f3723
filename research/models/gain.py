"""What an activation does to a layer's width and to the size of its signal, measured on itself.

So an activation that is added needs no table.
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
    """The features an activation takes for each that it gives: 2 for maxout of two, 1/2 for crelu.

    Args:
      activation: x (..., C) -> (..., D), may make flax parameters.
      width: a C that it takes.
    """
    result = jax.eval_shape(lambda: _apply(activation, jnp.zeros((1, width))))
    return Fraction(width, result.shape[-1])


def gain(activation: Callable, width: int) -> jax.Array:
    """1 / sqrt(E[f(z)^2]) for z ~ N(0, 1): by this weights must grow for the next layer's outputs
    to keep their variance (He et al., 2015, eq. 8, which gives sqrt(2) for ReLU).

    Other tables differ where they reason otherwise: PyTorch's has 5/3 for tanh (here 1.59) and 1
    for sigmoid (here 1.85).

    Args:
      activation: x (..., C) -> (..., D); its numbers may be traced.
      width: a C that it takes.

    Returns:
      float32 scalar, by stratified draws: to 1e-3 where it is elementwise, else to 1e-2.
    """  # noqa: D205
    quantiles = ndtri((jnp.arange(_EXAMPLES) + 0.5) / _EXAMPLES)
    draws = np.random.default_rng(0)
    order = np.stack([draws.permutation(_EXAMPLES) for _ in range(width)], axis=1)
    return jax.lax.rsqrt(jnp.mean(jnp.square(_apply(activation, quantiles[order]))))


def _apply(activation, x):
    # Without a parent: this runs in the midst of another module's initialisation.
    return _Alone(activation, parent=None).init_with_output(jax.random.key(0), x)[0]
