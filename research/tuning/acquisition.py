"""Acquisition functions: the names `config.search.acquisition` may use.

Each ranks points by the moments of a Gaussian process: `now` given observations and fantasies,
`observed` given observations alone. The next point of a batch maximises it
(`research/tuning/posterior.py`). Scores are minimised.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

from research.tuning.posterior import Context, Moments

_LOG_ROOT = 0.5 * np.log(2 * np.pi)
_SERIES = [(-1.0) ** k * math.prod(range(3, 2 * k + 2, 2)) for k in reversed(range(12))]


def log_expected_improvement(now: Moments, observed: Moments, context: Context) -> jax.Array:
    """Rank by the logarithm of the expected improvement, averaged over fantasies.

    Snoek et al. (2012). Far from good points the improvement itself underflows to 0, and its
    logarithm does not (Ament et al., 2023).
    """
    deviation = jnp.sqrt(now.variance)
    values = _log_improvement((context.best[:, None] - now.mean) / deviation)
    return jax.nn.logsumexp(values, axis=0) - np.log(len(context.best)) + jnp.log(deviation)


def upper_confidence_bound(
    now: Moments, observed: Moments, context: Context, *, beta: float
) -> jax.Array:
    """Take the least lower bound, mean - sqrt(beta) deviation, first; then the greatest deviation.

    The first point of a batch has the least lower bound. The others explore: they have the greatest
    deviation given the points before them, which needs no scores, in the region where the lower
    bound is not above the least upper bound. If the bounds hold, the optimum is in this region.
    This is GP-UCB-PE with a constant beta (Contal et al., 2013, https://arxiv.org/abs/1304.5350).
    Running trials reduce the deviation for the first point too (Desautels et al., 2014).
    """
    root = jnp.sqrt(beta)
    deviation = jnp.sqrt(now.variance)
    # Without fantasies all samples have the same mean.
    mean, space = observed.mean[0], context.space
    lower = mean - root * jnp.sqrt(observed.variance)
    least = (space.mean[0] + root * jnp.sqrt(space.variance)).min()
    # Points outside the region rank below all points inside, the nearest first.
    exploring = jnp.where(lower > least, least - lower, deviation)
    return jnp.where(context.first, root * deviation - mean, exploring)


def _log_improvement(z):
    """Return log(z Phi(z) + phi(z)); below -8 by its asymptotic series, because the sum cancels."""
    far = z < -8
    near = jnp.where(far, 0.0, z)
    direct = jnp.exp(-0.5 * near**2 - _LOG_ROOT) + near * 0.5 * erfc(-near / np.sqrt(2))
    inverse = 1 / jnp.where(far, z, -8.0) ** 2
    series = jnp.polyval(
        jnp.array(_SERIES, z.dtype), inverse
    )  # 1 - 3 / z^2 + 15 / z^4 - 105 / z^6 ...
    return jnp.where(
        far, -0.5 * z**2 - _LOG_ROOT + jnp.log(inverse) + jnp.log(series), jnp.log(direct)
    )
