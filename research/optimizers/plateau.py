"""Remember for the `plateau` schedule when the training loss has stopped falling."""

from typing import NamedTuple

import jax
import jax.numpy as jnp


class Losses(NamedTuple):
    """Losses of the windows so far; float32 scalars."""

    total: jax.Array  # sum of the losses in the current window
    steps: jax.Array  # number of steps in the current window
    least: jax.Array  # least mean of a window
    waited: jax.Array  # windows since the last new least mean, or the last cut
    cuts: jax.Array  # number of cuts of the learning rate


def nothing_seen() -> Losses:
    """Return the losses before the first step."""
    zero = jnp.zeros((), jnp.float32)
    return Losses(zero, zero, jnp.finfo(jnp.float32).max + zero, zero, zero)


def watched(losses: Losses, loss, *, window, patience, threshold) -> Losses:
    """Return the losses with that of one more step.

    Args:
      losses: the losses before this step.
      loss: scalar, the mean over a batch.
      window: number of steps whose mean is compared; this and the next two may be traced.
      patience: number of windows without a fall of the mean before a cut.
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
