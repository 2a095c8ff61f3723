"""Constrain parameters after an update."""

import jax
import jax.numpy as jnp

from research.models import leaves


def max_norm(params, limit):
    """Shorten each unit's incoming weights to length `limit` (Srivastava et al., 2014, sec. 5.1).

    Args:
      params: a tree; only kernels are changed.
      limit: float, may be traced.

    Returns:
      The tree, in which no unit's weights (along the kernel's fan-in axes) are longer than `limit`.
    """

    def shortened(weight, leaf):
        if leaf.role != "kernel":
            return weight
        length = jnp.sqrt(jnp.square(weight).sum(leaf.fan_in, keepdims=True))
        return weight * jnp.minimum(1.0, limit / jnp.maximum(length, 1e-12)).astype(weight.dtype)

    return jax.tree.map(shortened, params, leaves.of(params))
