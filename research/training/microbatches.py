"""Accumulate the gradient of a batch, part after part, if the batch is too large for the memory."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def over_batch(
    objective: Callable, batch, key, parts: int, weighted: bool = False
) -> tuple[Callable, Callable]:
    """Return the loss of a batch and its gradient, computed part by part to save memory.

    Means over equal parts average to the mean over the batch, penalties included; sums add up. This
    differs from the whole batch at once: each part has a dropout mask of its own, and batch norm
    normalises it by its own statistics and updates the running ones with them, part after part.

    Args:
      objective: (params, collections, batch, key) -> (mean loss, (`Sums`, new collections)).
      batch: a tree of (B, ...).
      key: for dropout.
      parts: divides B; 1: the batch at once.
      weighted: parts count by the weights of their losses, which may be unequal.

    Returns:
      `gradient(params, collections) -> (gradients, (sums, collections))` and
      `value(params, collections) -> mean loss`, which may be differentiated.
    """
    if parts == 1:
        gradient = jax.grad(objective, has_aux=True)
        return (
            lambda params, collections: gradient(params, collections, batch, key),
            lambda params, collections: objective(params, collections, batch, key)[0],
        )
    # Take every n-th example, so that devices which share the batch share each part.
    cut = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)
    keys = jax.random.split(key, parts)

    def gradient(params, collections):
        def add(carry, part):
            total, collections = carry
            gradients, (sums, collections) = jax.grad(objective, has_aux=True)(
                params, collections, *part
            )
            if weighted:
                _, weight = sums.means["loss"]
                gradients = jax.tree.map(lambda gradient: gradient * weight, gradients)
            return (jax.tree.map(jnp.add, total, gradients), collections), sums

        zeros = jax.tree.map(jnp.zeros_like, params)
        (total, collections), sums = jax.lax.scan(add, (zeros, collections), (cut, keys))
        sums = jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), sums)
        count = sums.means["loss"][1] if weighted else parts
        return jax.tree.map(lambda gradient: gradient / count, total), (sums, collections)

    def value(params, collections):
        def add(total, part):
            mean, (sums, _) = jax.checkpoint(objective)(params, collections, *part)
            weight = sums.means["loss"][1] if weighted else 1
            return (total[0] + mean * weight, total[1] + weight), None

        zero = jnp.float32(0), jnp.zeros((), jnp.float32)
        total, count = jax.lax.scan(add, zero, (cut, keys))[0]
        return total / (count if weighted else parts)

    return gradient, value
