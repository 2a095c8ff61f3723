"""Average weights, by name: (count, step, *, numbers...) -> the share of the newest weights.

After each update, average <- (1 - share) average + share weights. `count` is how many weights the
average holds; `step` is the number of updates so far, with this one.
"""

import jax.numpy as jnp

_POWER = 9.0  # ema: until its decay is reached, weights of step k count by k ** 9


def none(count, step):
    """Keep no average."""
    return 0.0


def ema(count, step, *, decay):
    """Average exponentially: share = max(1 - decay, 10 / (count + 10)), a growing reach.

    The second term is polynomial-decay averaging (Shamir and Zhang, 2013, section 4), a warm-up of
    the decay. Like bias correction, (1 - decay) / (1 - decay ** (count + 1)), it leaves nothing of
    the first value. But bias correction weights all steps of a run shorter than 1 / (1 - decay)
    nearly alike, with those of the first, untrained weights.
    """
    return jnp.maximum(1 - decay, (1 + _POWER) / (count + 1 + _POWER))


def swa(count, step, *, start, every):
    """Average the weights at `start` and at each `every` after it, with equal shares.

    Stochastic weight averaging (Izmailov et al., 2018, algorithm 1) takes a large or cyclic rate,
    such as the schedule `constant`. Until `start` the average is the weights themselves.
    """
    since = step - start
    due = jnp.floor(since / every) > jnp.floor((since - 1) / every)
    nothing_yet = (since <= 0) | (count == 0)
    return jnp.where(nothing_yet, 1.0, jnp.where(due, 1 / (count + 1), 0.0))
