"""Learning-rate schedules by name: (progress, step, numbers) -> a factor on the learning rate.

`numbers` holds the traced numbers of `config.schedule`, durations already in steps; a schedule is
a pure function of them, so changing its length or its end never recompiles. `progress` runs from 0
to 1 over the steps that warm-up leaves.
"""

import jax.numpy as jnp


def constant(progress, step, numbers):
    """1 throughout."""
    return jnp.ones_like(progress)


def cosine(progress, step, numbers):
    """Half a cosine from 1 to `final` (Loshchilov and Hutter, SGDR, 2017, eq. 5)."""
    final = numbers["final"]
    return final + (1 - final) * 0.5 * (1 + jnp.cos(jnp.pi * progress))


def linear(progress, step, numbers):
    """A straight line from 1 to `final`."""
    return 1 + (numbers["final"] - 1) * progress


def piecewise(progress, step, numbers):
    """Multiplied by `factor` at each of `milestones` (He et al., 2015: 0.1 at 1/2 and 3/4)."""
    passed = jnp.sum(step >= numbers["milestones"])
    return numbers["factor"] ** passed.astype(jnp.float32)
