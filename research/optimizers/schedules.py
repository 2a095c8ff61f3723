"""Schedule the learning rate, by name: (progress, step, *, numbers...) -> factor on the rate.

The numbers are those of `config.schedule` that a schedule names, traced, with durations in steps.
So changing the length of a schedule, or its end, never recompiles. `progress` runs from 0 to 1 over
the steps after warm-up. A schedule that names `cuts` gets the number of times that the training
loss has stopped falling.
"""

import jax.numpy as jnp

from research.names import numbers_of
from research.optimizers.plateau import watched

_LEAST = 1e-6  # for schedules that divide by `final` or take its logarithm


def constant(progress, step):
    """Return 1 throughout."""
    return jnp.ones_like(progress)


def linear(progress, step, *, final):
    """Return a straight line from 1 to `final`."""
    return 1 + (final - 1) * progress


def polynomial(progress, step, *, final, power):
    """Return final + (1 - final) (1 - progress)^power."""
    return final + (1 - final) * (1 - progress) ** power


def exponential(progress, step, *, final):
    """Return final^progress: the same ratio at each step; `final` is at least 1e-6."""
    return jnp.maximum(final, _LEAST) ** progress


def inverse_time(progress, step, *, final):
    """Return 1 / (1 + k progress), "1/t", with k so that it ends at `final`, at least 1e-6."""
    return 1 / (1 + (1 / jnp.maximum(final, _LEAST) - 1) * progress)


def inverse_sqrt(progress, step, *, warmup):
    """Return sqrt(warmup / step) after warm-up (Vaswani et al., 2017, section 5.3)."""
    length = jnp.maximum(warmup, 1.0)
    return jnp.sqrt(length / jnp.maximum(step + 1, length))


def cosine(progress, step, *, final):
    """Return half a cosine from 1 to `final` (Loshchilov and Hutter, SGDR, 2017, eq. 5)."""
    return final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


def cosine_restarts(progress, step, *, final, cycles):
    """Return `cycles` cosines of equal length, each from 1 to `final` (ibid., T_mult = 1)."""
    place = jnp.where(progress < 1, (progress * cycles) % 1, 1.0)
    return cosine(place, step, final=final)


def piecewise(progress, step, *, milestones, factor):
    """Multiply by `factor` at each of `milestones` (He et al., 2015: 0.1 at 1/2 and 3/4)."""
    passed = jnp.sum(step >= milestones)
    return factor ** passed.astype(jnp.float32)


def plateau(progress, step, cuts, *, factor, final):
    """Return factor^cuts, at least `final`; a cut comes when the training loss stops falling.

    That is, when for `schedule.patience` windows in a row the mean over a `schedule.window` has not
    been below 1 - `schedule.threshold` times the least before.
    """
    return jnp.maximum(factor**cuts, final)


plateau.uses = numbers_of(watched)  # `watched` counts the cuts


def stable_decay(progress, step, *, final, decay_share):
    """Return 1, then a line to `final` over the last `decay_share` (Hägele et al., 2024).

    The paper finds 1 - sqrt(x) better than the line 1 - x: it lies up to 0.25 below.
    """
    falling = (progress - (1 - decay_share)) / jnp.maximum(decay_share, _LEAST)
    return 1 + (final - 1) * jnp.clip(falling, 0, 1)


def one_cycle(progress, step, *, final, rise_share, initial):
    """Return cosines from `initial` up to 1 over `rise_share`, then down to `final` (Smith, 2018).

    Smith draws lines: up to 0.105 away. PyTorch's OneCycleLR has its peak and its end one step
    earlier: of 1000 steps, up to 0.003 away, and its last factor is `final`, here 5e-06 above.
    """
    up = progress / jnp.maximum(rise_share, _LEAST)
    down = (progress - rise_share) / jnp.maximum(1 - rise_share, _LEAST)
    rising = initial + (1 - initial) * 0.5 * (1 - jnp.cos(jnp.pi * jnp.clip(up, 0, 1)))
    return jnp.where(up < 1, rising, cosine(jnp.clip(down, 0, 1), step, final=final))
