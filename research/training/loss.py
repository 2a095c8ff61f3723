"""The loss, and the sums that metrics are made of."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from research import batch_axis
from research.models.leaves import is_kernel


def sums(logits: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> dict:
    """Cross-entropy, hits and examples, summed, so that parts of any size add up exactly.

    Args:
      logits: float (B, classes).
      targets: float (B, classes), the wanted distribution of each example.
      mask: bool (B,), False for padding; None counts all.

    Returns:
      {'loss': float32, 'correct': int32, 'count': int32}: scalars, of the batch of all devices
      that share it by hand (`research.batch_axis`).
    """
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
    hits = logits.argmax(-1) == targets.argmax(-1)
    if mask is None:
        mask = jnp.ones(losses.shape, bool)
    sums = {
        "loss": jnp.where(mask, losses, 0).sum(),
        "correct": (hits & mask).sum(dtype=jnp.int32),
        "count": mask.sum(dtype=jnp.int32),
    }
    return batch_axis.total(sums)


def smoothed_targets(config: ConfigDict, hyperparameters, labels, classes: int) -> jax.Array:
    """One-hot labels, mixed with the uniform distribution by `loss.label_smoothing`.

    Szegedy et al. (2016), section 7. labels: int (B,); returns float32 (B, classes).
    """
    targets = jax.nn.one_hot(labels, classes)
    if not config.loss.label_smoothing:
        return targets
    smoothing = hyperparameters["loss"]["label_smoothing"]
    return (1 - smoothing) * targets + smoothing / classes


def penalty(config: ConfigDict, hyperparameters, params) -> jax.Array | float:
    """l1 * sum |w| + l2 / 2 * sum w^2 over all kernel weights: terms of the loss.

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
