"""The posterior of a Gaussian process, and the batch of points that maximises an acquisition.

Running trials and earlier points of a batch have no score yet. They get fantasies: scores drawn
from the posterior, once for each of several samples, and the following points are computed in each
sample (Snoek et al., 2012). One more point is one more row of the inverse Cholesky factor. Call the
functions within `jax.enable_x64`, like those of `research/tuning/gaussian_process.py`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from research.tuning.gaussian_process import (
    Inputs,
    amplitude_of,
    covariance,
    inverse_root,
    noise_of,
)

_LEAST = 1e-12  # lower bound of variances, against rounding
_APART = 1e-2  # least distance between points of a batch, in at least one column
_SAME = 1e-9  # a point nearer than this to an observed point is a repeat


class Moments(NamedTuple):
    """Moments of the function's values at m points, in s samples."""

    mean: jax.Array  # (s, m)
    variance: jax.Array  # (m,), the same in all samples


class Context(NamedTuple):
    """The state of the search that an acquisition compares a point with."""

    best: jax.Array  # (s,): least mean of the points with an observation or a fantasy
    space: Moments  # given observations alone, at points that represent the whole space
    first: jax.Array | bool  # whether the next point is the first of its batch


class Posterior(NamedTuple):
    """The distribution over functions in each of s samples of fantasies.

    Arrays have one row for each observation or fantasy, padded to n rows.
    """

    parameters: jax.Array
    x: jax.Array  # (n, columns)
    present: jax.Array  # (n,), bool
    inverse_root: jax.Array  # (n, n), of the covariance of observations
    scores: jax.Array  # (n, s): the inverse root times the scores
    best: jax.Array  # (s,): least mean of the observed points


@functools.partial(jax.jit, static_argnames=("inputs", "samples"))
def observed(parameters, x, y, present, *, inputs: Inputs, samples: int) -> Posterior:
    """Return the posterior given observations alone, the same in all samples."""
    root = inverse_root(parameters, x, present, inputs)
    scores = jnp.repeat((root @ y)[:, None], samples, axis=1)
    posterior = Posterior(parameters, x, present, root, scores, jnp.zeros(samples))
    mean, _ = predicted(posterior, x, inputs)
    return posterior._replace(best=jnp.where(present, mean, jnp.inf).min(axis=1))


def _whitened(posterior: Posterior, x, inputs: Inputs):
    known = covariance(posterior.parameters, posterior.x, x, inputs)
    return posterior.inverse_root @ jnp.where(posterior.present[:, None], known, 0.0)


@functools.partial(jax.jit, static_argnames="inputs")
def predicted(posterior: Posterior, x, inputs: Inputs) -> Moments:
    """Return the moments at points x (m, columns)."""
    whitened = _whitened(posterior, x, inputs)
    variance = amplitude_of(posterior.parameters, inputs) - (whitened**2).sum(0)
    return Moments(posterior.scores.T @ whitened, jnp.maximum(variance, _LEAST))


class Candidates(NamedTuple):
    """The m points from which the next one is chosen, with their moments."""

    x: jax.Array  # (m, columns)
    known: jax.Array  # (n, m): covariances with the rows of the posterior
    moments: Moments


@functools.partial(jax.jit, static_argnames="inputs")
def candidates(posterior: Posterior, x, *, inputs: Inputs) -> Candidates:
    """Return the candidates at points x (m, columns), by a posterior."""
    known = covariance(posterior.parameters, posterior.x, x, inputs)
    known = jnp.where(posterior.present[:, None], known, 0.0)
    return Candidates(x, known, predicted(posterior, x, inputs))


@functools.partial(jax.jit, static_argnames="inputs")
def extended(
    posterior: Posterior, among: Candidates, point, row, draws, *, inputs: Inputs
) -> tuple[Posterior, Candidates]:
    """Add one more point, whose scores are fantasies by standard normal `draws` (s,)."""
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
    moments = Moments(
        among.moments.mean + draws[:, None] * change,
        jnp.maximum(among.moments.variance - change**2, _LEAST),
    )
    return posterior, Candidates(among.x, known, moments)


class Judge(NamedTuple):
    """An acquisition function, and the moments before the batch."""

    acquisition: Partial
    posterior: Posterior  # given observations alone
    pool: Moments  # at the candidates
    rows: Moments  # at the observed points

    def worth(self, now: Moments, observed: Moments, best: jax.Array, first) -> jax.Array:
        """Return the acquisition of m points with these moments."""
        parts = zip(self.pool, self.rows, strict=True)
        space = Moments(*(jnp.concatenate(part, axis=-1) for part in parts))
        return self.acquisition(now, observed, Context(best, space, first))


@functools.partial(jax.jit, static_argnames="inputs")
def judge(acquisition: Partial, posterior: Posterior, pool: Candidates, *, inputs: Inputs) -> Judge:
    """Return the judge of a batch; the pool represents the whole space."""
    first = posterior.x[0]
    rows = jnp.where(posterior.present[:, None], posterior.x, first)
    return Judge(acquisition, posterior, pool.moments, predicted(posterior, rows, inputs))


@jax.jit
def _worth_of(judge: Judge, posterior: Posterior, pool: Candidates, first):
    return judge.worth(pool.moments, judge.pool, posterior.best, first)


@functools.partial(jax.jit, static_argnames="inputs")
def worth_and_gradient(judge: Judge, posterior: Posterior, first, x, *, inputs: Inputs):
    """Return the acquisition of points x (m, columns), shape (m,), and its gradient by x."""

    def worth(x):
        now, observed = (predicted(given, x, inputs) for given in (posterior, judge.posterior))
        return judge.worth(now, observed, posterior.best, first)

    values, pull = jax.vjp(worth, x)
    return values, pull(jnp.ones_like(values))[0]


def _ascended(worth: Callable, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Maximise `worth` from each of the points x (m, columns), by L-BFGS-B.

    Args:
      worth: maps points (m, columns) to values (m,) and gradients (m, columns).
      x: the starts.
      free: (m, columns), bool: the numbers that may change.
    """
    from scipy.optimize import minimize

    x = x.copy()

    def loss(places):
        x[free] = places
        values, gradient = worth(x)
        return -float(np.asarray(values).sum()), -np.asarray(gradient)[free]

    if free.any():
        bounds = [(0.0, 1.0)] * int(free.sum())
        # At the edge of a region no step satisfies the line search.
        options = {"maxiter": 12, "maxls": 10}
        x[free] = minimize(
            loss, x[free], jac=True, method="L-BFGS-B", bounds=bounds, options=options
        ).x
    return x


def batch(
    acquisition: Partial,
    posterior: Posterior,
    row: int,
    pending: np.ndarray,
    groups: np.ndarray,
    free: np.ndarray,
    draws: np.ndarray,
    inputs: Inputs,
) -> np.ndarray:
    """Choose a batch of points greedily: each maximises the acquisition given those before it.

    An ascent starts at the best candidate of each group, and the best end point is chosen.

    Args:
      acquisition: a function of research/tuning/acquisition.py, bound to its numbers.
      posterior: given the observations, with room for the pending points and the batch.
      row: the first free row of the posterior.
      pending: (p, columns), points that wait for their scores.
      groups: (groups, m, columns), candidates.
      free: the same shape, bool: the numbers that may change.
      draws: (p + count, samples), standard normal with mean 0 in each row, for the fantasies.
      inputs: the meaning of the columns.

    Returns:
      Points (count, columns).
    """
    pool = candidates(posterior, groups.reshape(-1, groups.shape[-1]), inputs=inputs)
    judged = judge(acquisition, posterior, pool, inputs=inputs)
    chosen = np.zeros((len(draws), groups.shape[-1]))
    chosen[: len(pending)] = pending
    tried, places = np.asarray(posterior.x[:row]), np.asarray(pool.x)
    again = _penalty(places, tried, _SAME)
    for index, draw in enumerate(draws):
        if index >= len(pending):
            others, first = chosen[:index], index == len(pending)
            worth = np.asarray(_worth_of(judged, posterior, pool, first))
            worth = worth - again - _penalty(places, others, _APART)
            starts = np.arange(len(groups)), worth.reshape(groups.shape[:2]).argmax(1)
            known = functools.partial(worth_and_gradient, judged, posterior, first, inputs=inputs)
            reached = _ascended(known, groups[starts], free[starts])
            reached = np.concatenate([groups[starts], reached])  # an ascent may fail
            worth = np.nan_to_num(known(reached)[0], nan=-np.inf)
            worth -= _penalty(reached, others, _APART) + _penalty(reached, tried, _SAME)
            chosen[index] = reached[worth.argmax()]
        posterior, pool = extended(posterior, pool, chosen[index], row + index, draw, inputs=inputs)
    return chosen[len(pending) :]


def _penalty(points: np.ndarray, others: np.ndarray, apart: float) -> np.ndarray:
    """Return a penalty for points (m, columns) closer than `apart` to another in all columns.

    With noisy scores the acquisition may favour a repeat, but a repeat trains to the same score.
    """
    if not len(others):
        return np.zeros(len(points))
    distances = np.abs(points[:, None] - others[None]).max(-1).min(1)
    return np.where(distances < apart, 1e12, 0.0)
