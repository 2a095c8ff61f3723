"""What a trial is expected to be worth, and the batch that is worth most, point by point.

What has no score yet (trials that run, points chosen before in the batch) stands there by
fantasies: scores drawn from the posterior, once for each of some samples, in which everything that
follows is computed (Snoek et al., 2012). One more point is one more row of the Cholesky factor.
Like research/tuning/gaussian_process.py it works within `jax.enable_x64`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc

from research.tuning.gaussian_process import (
    Inputs,
    amplitude_of,
    covariance,
    inverse_root,
    noise_of,
)

_LOG_ROOT = 0.5 * np.log(2 * np.pi)
_SERIES = [(-1.0) ** k * math.prod(range(3, 2 * k + 2, 2)) for k in reversed(range(12))]
_APART = 1e-2  # what points of a batch differ by, in one column at least
_SAME = 1e-9  # what is nearer to an observed point is that point
_LEAST = 1e-12  # of variances, where rounding leaves less


class Posterior(NamedTuple):
    """Over functions, in each of some samples of what has no score yet.

    Arrays have one row for each observation or fantasy, padded: n rows, s samples.
    """

    parameters: jax.Array
    x: jax.Array  # (n, columns)
    present: jax.Array  # (n,), bool
    inverse_root: jax.Array  # (n, n), of the covariance of observations
    scores: jax.Array  # (n, s), times the inverse root
    best: jax.Array  # (s,): least mean of the observed points


@functools.partial(jax.jit, static_argnames=("inputs", "samples"))
def observed(parameters, x, y, present, *, inputs: Inputs, samples: int) -> Posterior:
    """Given observations alone, the same in all samples."""
    root = inverse_root(parameters, x, present, inputs)
    scores = jnp.repeat((root @ y)[:, None], samples, axis=1)
    posterior = Posterior(parameters, x, present, root, scores, jnp.zeros(samples))
    mean, _ = predicted(posterior, x, inputs)
    return posterior._replace(best=jnp.where(present, mean, jnp.inf).min(axis=1))


def _whitened(posterior: Posterior, x, inputs: Inputs):
    known = covariance(posterior.parameters, posterior.x, x, inputs)
    return posterior.inverse_root @ jnp.where(posterior.present[:, None], known, 0.0)


@functools.partial(jax.jit, static_argnames="inputs")
def predicted(posterior: Posterior, x, inputs: Inputs):
    """Mean (s, m) in each sample and variance (m,) in all of them, of the values at x."""
    whitened = _whitened(posterior, x, inputs)
    variance = amplitude_of(posterior.parameters, inputs) - (whitened**2).sum(0)
    return posterior.scores.T @ whitened, jnp.maximum(variance, _LEAST)


@functools.partial(jax.jit, static_argnames="inputs")
def log_expected_improvement(posterior: Posterior, x, inputs: Inputs):
    """The logarithm of the expected improvement over the best (m,), averaged over the samples.

    The improvement itself underflows to 0 where nothing is expected (Ament et al., 2023).
    """
    return _averaged(*predicted(posterior, x, inputs), posterior.best)


def _averaged(mean, variance, best):
    deviation = jnp.sqrt(variance)
    values = _log_improvement((best[:, None] - mean) / deviation)
    return jax.nn.logsumexp(values, axis=0) - np.log(len(best)) + jnp.log(deviation)


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


class Candidates(NamedTuple):
    """Points of which the next is picked, m of them, with what is known about them."""

    x: jax.Array  # (m, columns)
    known: jax.Array  # (n, m): covariances with the rows of the posterior
    mean: jax.Array  # (s, m)
    variance: jax.Array  # (m,)


@functools.partial(jax.jit, static_argnames="inputs")
def candidates(posterior: Posterior, x, *, inputs: Inputs) -> Candidates:
    """Points (m, columns), as seen from a posterior."""
    known = covariance(posterior.parameters, posterior.x, x, inputs)
    known = jnp.where(posterior.present[:, None], known, 0.0)
    return Candidates(x, known, *predicted(posterior, x, inputs))


@functools.partial(jax.jit, static_argnames="inputs")
def extended(
    posterior: Posterior, among: Candidates, point, row, draws, *, inputs: Inputs
) -> tuple[Posterior, Candidates]:
    """Given one more point, whose score is drawn: `draws` (s,) are standard normal."""
    parameters = posterior.parameters
    whitened = _whitened(posterior, point[None], inputs)[:, 0]
    variance = amplitude_of(parameters, inputs) - whitened @ whitened
    variance = jnp.maximum(variance, _LEAST)
    root = jnp.sqrt(variance + noise_of(parameters, inputs))
    new = (-(whitened @ posterior.inverse_root) / root).at[row].set(1 / root)
    known = among.known.at[row].set(covariance(parameters, point[None], among.x, inputs)[0])
    change = new @ known
    mean = posterior.scores.T @ whitened + variance / root * draws
    posterior = Posterior(
        parameters,
        posterior.x.at[row].set(point),
        posterior.present.at[row].set(True),
        posterior.inverse_root.at[row].set(new),
        posterior.scores.at[row].set(draws),
        jnp.minimum(posterior.best, mean),
    )
    return posterior, Candidates(
        among.x,
        known,
        among.mean + draws[:, None] * change,
        jnp.maximum(among.variance - change**2, _LEAST),
    )


@jax.jit
def _worth(posterior: Posterior, among: Candidates):
    return _averaged(among.mean, among.variance, posterior.best)


@functools.partial(jax.jit, static_argnames="inputs")
def _worth_and_gradient(posterior: Posterior, x, *, inputs: Inputs):
    values, pull = jax.vjp(lambda x: log_expected_improvement(posterior, x, inputs), x)
    return values, pull(jnp.ones_like(values))[0]


def _climbed(posterior: Posterior, x: np.ndarray, free: np.ndarray, inputs: Inputs) -> np.ndarray:
    """From each of x (m, columns) uphill in the columns that are free, by L-BFGS-B."""
    from scipy.optimize import minimize

    x = x.copy()

    def loss(places):
        x[free] = places
        values, gradient = _worth_and_gradient(posterior, x, inputs=inputs)
        return -float(np.asarray(values).sum()), -np.asarray(gradient)[free]

    if free.any():
        bounds = [(0.0, 1.0)] * int(free.sum())
        options = {"maxiter": 12}
        x[free] = minimize(
            loss, x[free], jac=True, method="L-BFGS-B", bounds=bounds, options=options
        ).x
    return x


def batch(
    posterior: Posterior,
    row: int,
    pending: np.ndarray,
    groups: np.ndarray,
    free: np.ndarray,
    draws: np.ndarray,
    inputs: Inputs,
) -> np.ndarray:
    """The points of the largest expected improvement, each given those before it.

    From the best candidate of each group it climbs; the best of what is reached is taken.

    Args:
      posterior: given the observations; has room for the pending points and the batch.
      row: the first that is free in it.
      pending: (p, columns), points that wait for their scores.
      groups: (groups, m, columns), candidates.
      free: the same shape, bool: which of their numbers may be moved.
      draws: (p + count, samples), standard normal: the fantasies.
      inputs: what the columns are.

    Returns:
      (count, columns).
    """
    pool = candidates(posterior, groups.reshape(-1, groups.shape[-1]), inputs=inputs)
    found = np.zeros((len(draws), groups.shape[-1]))
    found[: len(pending)] = pending
    tried, places = np.asarray(posterior.x[:row]), np.asarray(pool.x)
    again = _penalty(places, tried, _SAME)
    for index, draw in enumerate(draws):
        if index >= len(pending):
            others = found[:index]
            worth = np.asarray(_worth(posterior, pool)) - again - _penalty(places, others, _APART)
            first = np.arange(len(groups)), worth.reshape(groups.shape[:2]).argmax(1)
            reached = _climbed(posterior, groups[first], free[first], inputs)
            reached = np.concatenate([groups[first], reached])  # a climb may fail
            worth = np.asarray(_worth_and_gradient(posterior, reached, inputs=inputs)[0])
            worth = np.nan_to_num(worth, nan=-np.inf) - _penalty(reached, others, _APART)
            worth -= _penalty(reached, tried, _SAME)
            found[index] = reached[worth.argmax()]
        posterior, pool = extended(posterior, pool, found[index], row + index, draw, inputs=inputs)
    return found[len(pending) :]


def _penalty(points: np.ndarray, others: np.ndarray, apart: float) -> np.ndarray:
    """For points (m, columns) that are in all columns nearer than this to one of the others.

    Where scores are taken to be noisy, to try a point twice is worth something. But the same
    numbers train to the same score.
    """
    if not len(others):
        return np.zeros(len(points))
    distances = np.abs(points[:, None] - others[None]).max(-1).min(1)
    return np.where(distances < apart, 1e12, 0.0)
