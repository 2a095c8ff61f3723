"""Gradient accumulation: a batch that is too large for the memory, part after part."""

from collections.abc import Callable

import jax
import jax.numpy as jnp


def over_batch(objective: Callable, batch, key, parts: int) -> tuple[Callable, Callable]:
    """The loss of a batch and its gradient, with the activations of one part at a time in memory.

    Means over equal parts average to the mean over the batch, penalties included; sums add up.
    What differs from the batch at once: each part has a dropout mask of its own, and batch norm
    normalises it by its own statistics and updates the running ones with them, part after part.

    Args:
      objective: (params, batch_stats, batch, key) -> (mean loss, (sums, new batch_stats)).
      batch: a tree of (B, ...).
      key: for dropout.
      parts: divides B; 1: the batch at once.

    Returns:
      `gradient(params, batch_stats) -> (gradients, (sums, batch_stats))` and
      `value(params, batch_stats) -> mean loss`, which may be differentiated.
    """
    if parts == 1:
        gradient = jax.grad(objective, has_aux=True)
        return (
            lambda params, batch_stats: gradient(params, batch_stats, batch, key),
            lambda params, batch_stats: objective(params, batch_stats, batch, key)[0],
        )
    # Every parts-th example, so that devices which share the batch share each part.
    cut = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, parts, *x.shape[1:]), 0, 1), batch)
    keys = jax.random.split(key, parts)

    def gradient(params, batch_stats):
        def add(carry, part):
            total, batch_stats = carry
            gradients, (sums, batch_stats) = jax.grad(objective, has_aux=True)(
                params, batch_stats, *part
            )
            return (jax.tree.map(jnp.add, total, gradients), batch_stats), sums

        zeros = jax.tree.map(jnp.zeros_like, params)
        (total, batch_stats), sums = jax.lax.scan(add, (zeros, batch_stats), (cut, keys))
        gradients = jax.tree.map(lambda gradient: gradient / parts, total)
        return gradients, (jax.tree.map(lambda x: x.sum(0, dtype=x.dtype), sums), batch_stats)

    def value(params, batch_stats):
        def add(total, part):
            return total + jax.checkpoint(objective)(params, batch_stats, *part)[0], None

        return jax.lax.scan(add, jnp.float32(0), (cut, keys))[0] / parts

    return gradient, value
