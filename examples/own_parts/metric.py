"""A metric: (outputs, targets, mask) -> (sum, weight) over a batch."""

import jax
import jax.numpy as jnp

from research.tasks.metric import mean_over, metric


@metric(higher_is_better=False)
def brier(outputs, targets, mask):
    """The squared distance of the probabilities from the targets (Brier, 1950)."""
    distance = jnp.square(jax.nn.softmax(outputs) - targets).sum(-1)
    return mean_over(mask, distance)
