"""Learning-rate schedules by name: (progress, step, *, numbers...) -> factor on the rate.

The numbers are those of `config.schedule` that a schedule names, traced, durations already in
steps; so changing its length or its end never recompiles. `progress` runs from 0 to 1 over the
steps that warm-up leaves.
"""

import jax.numpy as jnp


def constant(progress, step):
    """1 throughout."""
    return jnp.ones_like(progress)


def cosine(progress, step, *, final):
    """Half a cosine from 1 to `final` (Loshchilov and Hutter, SGDR, 2017, eq. 5)."""
    return final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


def linear(progress, step, *, final):
    """A straight line from 1 to `final`."""
    return 1 + (final - 1) * progress


def piecewise(progress, step, *, milestones, factor):
    """Multiplied by `factor` at each of `milestones` (He et al., 2015: 0.1 at 1/2 and 3/4)."""
    passed = jnp.sum(step >= milestones)
    return factor ** passed.astype(jnp.float32)
