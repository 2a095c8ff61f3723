"""Minimise sharpness, around every update rule."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax


def sharpness_aware(gradient: Callable, radius, trained) -> Callable:
    """Return a gradient function at w + radius g / |g| (SAM; Foret et al., 2021, eq. 2 and 3).

    Metrics and running statistics of batch norm are those of the first pass, because the weights of
    the second pass are never evaluated.

    Args:
      gradient: (params, batch_stats) -> (gradients, aux); the same function, and so the same
        dropout mask, in both passes.
      radius: float, may be traced.
      trained: a tree like params; falsy, or a traced False, for parameters that must stay in place.

    Returns:
      A function like `gradient`.
    """

    def uphill(params, batch_stats):
        gradients, aux = gradient(params, batch_stats)
        along = jax.tree.map(jnp.multiply, gradients, trained)
        factor = radius / jnp.maximum(optax.tree.norm(along), 1e-12)
        top = jax.tree.map(lambda param, g: param + factor * g, params, along)
        return gradient(top, batch_stats)[0], aux

    return uphill
