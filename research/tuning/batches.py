"""The batch of points that is worth most, each given those before it.

What a point is worth, a function of research/tuning/acquisition.py says. Like
research/tuning/gaussian_process.py it works within `jax.enable_x64`.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from research.tuning.gaussian_process import Inputs
from research.tuning.posterior import (
    Candidates,
    Context,
    Moments,
    Posterior,
    candidates,
    extended,
    predicted,
)

_APART = 1e-2  # what points of a batch differ by, in one column at least
_SAME = 1e-9  # what is nearer to an observed point is that point


class Judge(NamedTuple):
    """An acquisition, and what was known before the batch."""

    acquisition: Partial
    posterior: Posterior  # given the observations
    pool: Moments  # of the candidates
    rows: Moments  # of the observed points

    def worth(self, now: Moments, observed: Moments, best: jax.Array, first) -> jax.Array:
        """Of points (m,) of which so much is known now, and was by the observations alone."""
        parts = zip(self.pool, self.rows, strict=True)
        space = Moments(*(jnp.concatenate(part, axis=-1) for part in parts))
        return self.acquisition(now, observed, Context(best, space, first))


@functools.partial(jax.jit, static_argnames="inputs")
def judge(acquisition: Partial, posterior: Posterior, pool: Candidates, *, inputs: Inputs) -> Judge:
    """By a posterior given the observations, its pool being points of the whole space."""
    first = posterior.x[0]
    rows = jnp.where(posterior.present[:, None], posterior.x, first)
    return Judge(acquisition, posterior, pool.moments, predicted(posterior, rows, inputs))


@jax.jit
def _worth_of(judge: Judge, posterior: Posterior, pool: Candidates, first):
    return judge.worth(pool.moments, judge.pool, posterior.best, first)


@functools.partial(jax.jit, static_argnames="inputs")
def worth_and_gradient(judge: Judge, posterior: Posterior, first, x, *, inputs: Inputs):
    """Return the worth (m,) of points x (m, columns), and its gradient by them (m, columns)."""

    def worth(x):
        now, observed = (predicted(given, x, inputs) for given in (posterior, judge.posterior))
        return judge.worth(now, observed, posterior.best, first)

    values, pull = jax.vjp(worth, x)
    return values, pull(jnp.ones_like(values))[0]


def _climbed(worth: Callable, x: np.ndarray, free: np.ndarray) -> np.ndarray:
    """From each of x (m, columns) uphill in the columns that are free, by L-BFGS-B.

    `worth` gives values (m,) and gradients (m, columns) of points (m, columns).
    """
    from scipy.optimize import minimize

    x = x.copy()

    def loss(places):
        x[free] = places
        values, gradient = worth(x)
        return -float(np.asarray(values).sum()), -np.asarray(gradient)[free]

    if free.any():
        bounds = [(0.0, 1.0)] * int(free.sum())
        options = {"maxiter": 12, "maxls": 10}  # no step satisfies it at the edge of a region
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
    """Return the points that are worth most, each given those before it.

    From the best candidate of each group it climbs; the best of what is reached is taken.

    Args:
      acquisition: of research/tuning/acquisition.py, with its numbers.
      posterior: given the observations; has room for the pending points and the batch.
      row: the first that is free in it.
      pending: (p, columns), points that wait for their scores.
      groups: (groups, m, columns), candidates.
      free: the same shape, bool: which of their numbers may be moved.
      draws: (p + count, samples), standard normal, of mean 0 in each row: the fantasies.
      inputs: what the columns are.

    Returns:
      (count, columns).
    """
    pool = candidates(posterior, groups.reshape(-1, groups.shape[-1]), inputs=inputs)
    judged = judge(acquisition, posterior, pool, inputs=inputs)
    found = np.zeros((len(draws), groups.shape[-1]))
    found[: len(pending)] = pending
    tried, places = np.asarray(posterior.x[:row]), np.asarray(pool.x)
    again = _penalty(places, tried, _SAME)
    for index, draw in enumerate(draws):
        if index >= len(pending):
            others, first = found[:index], index == len(pending)
            worth = np.asarray(_worth_of(judged, posterior, pool, first))
            worth = worth - again - _penalty(places, others, _APART)
            starts = np.arange(len(groups)), worth.reshape(groups.shape[:2]).argmax(1)
            known = functools.partial(worth_and_gradient, judged, posterior, first, inputs=inputs)
            reached = _climbed(known, groups[starts], free[starts])
            reached = np.concatenate([groups[starts], reached])  # a climb may fail
            worth = np.nan_to_num(known(reached)[0], nan=-np.inf)
            worth -= _penalty(reached, others, _APART) + _penalty(reached, tried, _SAME)
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
