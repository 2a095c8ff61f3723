"""Warm up, before any schedule."""

import jax.numpy as jnp


def with_warmup(schedule, step, warmup, duration):
    """Return the factor on the learning rate at a step: linear warm-up, then the schedule.

    The first update uses 1 / warmup of the rate, the warmup-th all of it.

    Args:
      schedule: (progress, step) -> factor, as in `optimizers/schedules.py`.
      step: integer scalar, the number of updates made so far.
      warmup: length of the warm-up in steps, may be traced.
      duration: length of the whole training in steps, may be traced.

    Returns:
      float32 scalar.
    """
    step = jnp.asarray(step, jnp.float32)
    rise = jnp.minimum(1.0, (step + 1) / jnp.maximum(warmup, 1.0))
    progress = (step - warmup) / jnp.maximum(duration - warmup, 1.0)
    return rise * schedule(jnp.clip(progress, 0.0, 1.0), step)
