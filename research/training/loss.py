"""The loss, and the sums that metrics are made of."""

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from research.optimizers.masks import is_kernel


def sums(logits: jax.Array, targets: jax.Array, mask: jax.Array | None = None) -> dict:
    """Cross-entropy, hits and examples, summed, so that parts of any size add up exactly.

    Args:
      logits: float (B, classes).
      targets: float (B, classes), the wanted distribution of each example.
      mask: bool (B,), False for padding; None counts all.

    Returns:
      {'loss': float32, 'correct': int32, 'count': int32}: scalars.
    """
    losses = optax.softmax_cross_entropy(logits.astype(jnp.float32), targets)
    hits = logits.argmax(-1) == targets.argmax(-1)
    if mask is None:
        mask = jnp.ones(losses.shape, bool)
    return {
        "loss": jnp.where(mask, losses, 0).sum(),
        "correct": (hits & mask).sum(dtype=jnp.int32),
        "count": mask.sum(dtype=jnp.int32),
    }


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
    """l2 / 2 times the sum of all squared kernel weights: a term of the loss."""
    if not config.loss.l2:
        return 0.0
    kernels = jax.tree.map(
        lambda weight, penalised: jnp.sum(weight**2) if penalised else 0.0,
        params,
        is_kernel(params),
    )
    return 0.5 * hyperparameters["loss"]["l2"] * sum(jax.tree.leaves(kernels))
