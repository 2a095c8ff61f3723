"""Warm-up: composes with every schedule."""

import jax.numpy as jnp


def with_warmup(schedule, step, numbers):
    """The factor on the learning rate at a step: linear warm-up, then the schedule.

    The first update already uses 1 / warmup of the rate, the warmup-th all of it.

    Args:
      schedule: a function of `optimizers/schedules.py`.
      step: integer scalar, the number of updates made so far.
      numbers: the traced numbers of `config.schedule`, 'warmup' and 'duration' in steps.

    Returns:
      float32 scalar.
    """
    step = jnp.asarray(step, jnp.float32)
    warmup = numbers["warmup"]
    rise = jnp.minimum(1.0, (step + 1) / jnp.maximum(warmup, 1.0))
    progress = (step - warmup) / jnp.maximum(numbers["duration"] - warmup, 1.0)
    return rise * schedule(jnp.clip(progress, 0.0, 1.0), step, numbers)
