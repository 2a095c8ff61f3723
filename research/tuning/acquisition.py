"""What a point is worth trying: the names `config.search.acquisition` may use.

Each is a function of what a Gaussian process knows of the points now and knew from observations
alone, and of what all points are compared with; the next point of a batch is where it is greatest
(research/tuning/batches.py). Scores are minimised.
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
    """Return the logarithm of the expected improvement over the best, averaged over fantasies.

    Snoek et al. (2012); the improvement itself underflows to 0 where nothing is expected (Ament et
    al., 2023).
    """
    deviation = jnp.sqrt(now.variance)
    values = _log_improvement((context.best[:, None] - now.mean) / deviation)
    return jax.nn.logsumexp(values, axis=0) - np.log(len(context.best)) + jnp.log(deviation)


def upper_confidence_bound(
    now: Moments, observed: Moments, context: Context, *, beta: float
) -> jax.Array:
    """First the least lower bound, mean - sqrt(beta) deviation; then where least is known.

    The first point of a batch has the least bound. The others explore: they have the greatest
    deviation given those before them, which takes no scores, in the region where the lower bound
    is not above the least upper one: there the optimum is, if the bounds hold. GP-UCB-PE (Contal
    et al., 2013, https://arxiv.org/abs/1304.5350), of a constant beta; for the first point too,
    trials that run have lessened the deviation (Desautels et al., 2014).
    """
    root = jnp.sqrt(beta)
    deviation = jnp.sqrt(now.variance)
    mean, space = observed.mean[0], context.space  # the same in all samples, without fantasies
    lower = mean - root * jnp.sqrt(observed.variance)
    least = (space.mean[0] + root * jnp.sqrt(space.variance)).min()
    # Outside of the region nothing is worth as much as inside, and more the nearer.
    exploring = jnp.where(lower > least, least - lower, deviation)
    return jnp.where(context.first, root * deviation - mean, exploring)


def _log_improvement(z):
    """log(z Phi(z) + phi(z)): far below 0 by its asymptotic series, before it cancels out."""
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
