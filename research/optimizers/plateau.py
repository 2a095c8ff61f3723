"""What the `plateau` schedule remembers: where the training loss has stopped falling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Losses(NamedTuple):
    """Of the windows so far; float32 scalars."""

    total: jax.Array  # of the losses in the window that is not full yet
    steps: jax.Array  # in it
    least: jax.Array  # mean of a window
    waited: jax.Array  # windows since that was last undercut, or since the last cut
    cuts: jax.Array  # of the learning rate


def nothing_seen() -> Losses:
    """Before the first step."""
    zero = jnp.zeros((), jnp.float32)
    return Losses(zero, zero, jnp.finfo(jnp.float32).max + zero, zero, zero)


def watched(losses: Losses, loss, *, window, patience, threshold) -> Losses:
    """Takes in the loss of one step.

    Args:
      losses: of the steps before.
      loss: scalar, the mean over a batch.
      window: steps whose mean is compared; all three may be traced.
      patience: windows in which the mean has not fallen, before a cut.
      threshold: a mean has fallen if it is below (1 - threshold) of the least before.
    """
    total, steps = losses.total + loss, losses.steps + 1
    full = steps >= window
    mean = total / steps
    fallen = full & (mean < (1 - threshold) * losses.least)
    waited = jnp.where(fallen, 0, losses.waited + full)
    cut = full & ~fallen & (waited >= patience)
    return Losses(
        total=jnp.where(full, 0, total),
        steps=jnp.where(full, 0, steps),
        least=jnp.where(fallen, mean, losses.least),
        waited=jnp.where(cut, 0, waited),
        cuts=losses.cuts + cut,
    )
