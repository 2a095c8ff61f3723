"""Averages of weights: (count, step, *, numbers...) -> what share of it the newest weights become.

After each update, average <- (1 - share) average + share weights. `count` is how many weights the
average holds, `step` how many updates were made, this one included.
"""

import jax.numpy as jnp

_POWER = 9.0  # ema: until its decay is reached, weights of step k count by k ** 9


def none(count, step):
    """No average is kept."""
    return 0.0


def ema(count, step, *, decay):
    """Exponential: share = max(1 - decay, 10 / (count + 10)); its reach grows with the training.

    The second term is polynomial-decay averaging (Shamir and Zhang, 2013, section 4), a warm-up of
    the decay. Like bias correction, (1 - decay) / (1 - decay ** (count + 1)), it leaves nothing of
    the first value; but under that, all weights of a run shorter than 1 / (1 - decay) steps would
    count nearly alike, the untrained ones too.
    """
    return jnp.maximum(1 - decay, (1 + _POWER) / (count + 1 + _POWER))


def swa(count, step, *, start, every):
    """Stochastic weight averaging (Izmailov et al., 2018, algorithm 1): the plain mean.

    Of the weights at `start` and at each `every` after it; a large or cyclic rate goes with it,
    such as the schedule `constant`. Until `start` the average is the weights themselves.
    """
    since = step - start
    due = jnp.floor(since / every) > jnp.floor((since - 1) / every)
    nothing_yet = (since <= 0) | (count == 0)
    return jnp.where(nothing_yet, 1.0, jnp.where(due, 1 / (count + 1), 0.0))
