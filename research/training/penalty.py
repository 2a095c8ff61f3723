"""Compute penalties on weights: terms of the training loss."""

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from research.models.leaves import is_kernel


def penalty(config: ConfigDict, hyperparameters, params) -> jax.Array | float:
    """Return l1 * sum |w| + l2 / 2 * sum w^2 over all kernel weights.

    Both together are the elastic net (Zou and Hastie, 2005). The gradient of |w| at 0 is 0.
    """
    numbers, total = hyperparameters["loss"], 0.0
    for name, cost in (("l1", jnp.abs), ("l2", lambda weight: jnp.square(weight) / 2)):
        if config.loss[name]:
            kernels = jax.tree.map(
                lambda weight, penalised, cost=cost: jnp.sum(cost(weight)) if penalised else 0.0,
                params,
                is_kernel(params),
            )
            total = total + numbers[name] * sum(jax.tree.leaves(kernels))
    return total
