"""What is known of a function: the posterior of a Gaussian process, point by point.

What has no score yet (trials that run, points chosen before in the batch) stands there by
fantasies: scores drawn from the posterior, once for each of some samples, in which everything that
follows is computed (Snoek et al., 2012). One more point is one more row of the Cholesky factor.
Like research/tuning/gaussian_process.py it works within `jax.enable_x64`.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research.tuning.gaussian_process import (
    Inputs,
    amplitude_of,
    covariance,
    inverse_root,
    noise_of,
)

_LEAST = 1e-12  # of variances, where rounding leaves less


class Moments(NamedTuple):
    """Of the function's values at m points."""

    mean: jax.Array  # (s, m), in each sample
    variance: jax.Array  # (m,), in all of them


class Context(NamedTuple):
    """What all points are compared with."""

    best: jax.Array  # (s,): least mean of the points that were observed or have a fantasy
    space: Moments  # by observations alone, of points that stand for the whole space
    first: jax.Array | bool  # of a batch, or one after others


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
def predicted(posterior: Posterior, x, inputs: Inputs) -> Moments:
    """Of the values at x (m, columns)."""
    whitened = _whitened(posterior, x, inputs)
    variance = amplitude_of(posterior.parameters, inputs) - (whitened**2).sum(0)
    return Moments(posterior.scores.T @ whitened, jnp.maximum(variance, _LEAST))


class Candidates(NamedTuple):
    """Points of which the next is picked, m of them, with what is known about them."""

    x: jax.Array  # (m, columns)
    known: jax.Array  # (n, m): covariances with the rows of the posterior
    moments: Moments


@functools.partial(jax.jit, static_argnames="inputs")
def candidates(posterior: Posterior, x, *, inputs: Inputs) -> Candidates:
    """Points (m, columns), as seen from a posterior."""
    known = covariance(posterior.parameters, posterior.x, x, inputs)
    known = jnp.where(posterior.present[:, None], known, 0.0)
    return Candidates(x, known, predicted(posterior, x, inputs))


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
    moments = Moments(
        among.moments.mean + draws[:, None] * change,
        jnp.maximum(among.moments.variance - change**2, _LEAST),
    )
    return posterior, Candidates(among.x, known, moments)
