"""What parameters are brought back to after an update."""

import jax
import jax.numpy as jnp

from research.optimizers.masks import is_kernel


def max_norm(params, limit):
    """Shortens each unit's incoming weights to length `limit` (Srivastava et al., 2014, sec. 5.1).

    Args:
      params: a tree; only kernels (..., out) are changed.
      limit: float, may be traced.

    Returns:
      The tree, in which no kernel has a column, over all axes but the last, longer than `limit`.
    """

    def shortened(weight, kernel):
        if not kernel:
            return weight
        axes = tuple(range(weight.ndim - 1))
        length = jnp.sqrt(jnp.square(weight).sum(axes))
        return weight * jnp.minimum(1.0, limit / jnp.maximum(length, 1e-12)).astype(weight.dtype)

    return jax.tree.map(shortened, params, is_kernel(params))
