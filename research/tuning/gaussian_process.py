"""Gaussian process regression (Rasmussen and Williams, 2006) in float64, Matern-5/2 ARD.

Call it within `jax.enable_x64`, which changes nothing for the rest of the process. Arrays are
padded to a few sizes, so that programs are not compiled anew for each observation.

Parameters are one vector of logarithms: a length scale for each axis, the variance of the function,
the variance of the noise, and both exponents of the warp of each column that is warped.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular

# Priors of the logarithms, as mean and deviation, and the bounds that are searched. Inputs lie in
# [0, 1]; observations have mean 0 and variance 1.
_LENGTH_SCALE = (math.sqrt(2) - math.log(10), math.sqrt(3))  # of one axis; Hvarfner et al., 2024
_AMPLITUDE = (0.0, 1.0)
_NOISE = (-8.0, 2.5)
_WARP = (0.0, 0.3)  # wider, and noise is taken for shape
_LENGTH_SCALE_BOUNDS, _AMPLITUDE_BOUNDS = (-4.0, 5.0), (-4.0, 4.0)
_NOISE_BOUNDS, _WARP_BOUNDS = (-14.0, 1.0), (-1.5, 1.5)

_FEW = 128  # observations at most that fits are started on


@dataclasses.dataclass(frozen=True)
class Inputs:
    """What the columns of the inputs are; hashable, for programs are made for it."""

    axes: tuple[int, ...]  # of each column, from 0: columns of one axis share a length scale
    warped: tuple[bool, ...]  # which columns are: those of numbers

    @property
    def scales(self) -> int:
        """The number of length scales."""
        return max(self.axes) + 1

    @property
    def bounds(self) -> np.ndarray:
        """Lowest and highest of each parameter: (parameters, 2)."""
        rows = [_LENGTH_SCALE_BOUNDS] * self.scales + [_AMPLITUDE_BOUNDS, _NOISE_BOUNDS]
        return np.array(rows + [_WARP_BOUNDS] * 2 * sum(self.warped))

    @property
    def prior(self) -> np.ndarray:
        """Mean and deviation of each parameter: (parameters, 2).

        Distances in a cube grow with the root of the number of axes, and length scales with them.
        """
        mean, deviation = _LENGTH_SCALE
        rows = [(mean + math.log(self.scales) / 2, deviation)] * self.scales
        return np.array([*rows, _AMPLITUDE, _NOISE, *[_WARP] * 2 * sum(self.warped)])


def amplitude_of(parameters, inputs: Inputs):
    """Variance of the function's values."""
    return jnp.exp(parameters[inputs.scales])


def noise_of(parameters, inputs: Inputs):
    """Variance of the noise of observations."""
    return jnp.exp(parameters[inputs.scales + 1])


def covariance(parameters, left, right, inputs: Inputs):
    """Of the function's values: (n, m) for inputs (n, columns) and (m, columns)."""
    length_scales = jnp.exp(parameters[: inputs.scales])[jnp.array(inputs.axes)]
    left, right = (_warp(parameters, x, inputs) / length_scales for x in (left, right))
    squared = (left**2).sum(1)[:, None] + (right**2).sum(1)[None] - 2 * left @ right.T
    return amplitude_of(parameters, inputs) * _matern(jnp.maximum(squared, 0.0))


@jax.custom_jvp
def _matern(squared):
    """Matern-5/2 of squared distances; its derivative by them is finite at 0."""
    distance = jnp.sqrt(5 * squared)
    return (1 + distance + distance**2 / 3) * jnp.exp(-distance)


@_matern.defjvp
def _(primals, tangents):
    (squared,), (tangent,) = primals, tangents
    distance = jnp.sqrt(5 * squared)
    return _matern(squared), -5 / 6 * (1 + distance) * jnp.exp(-distance) * tangent


def _warp(parameters, x, inputs: Inputs):
    """Kumaraswamy's 1 - (1 - x^a)^b, nearly the Beta warp of Snoek et al. (2014)."""
    if not any(inputs.warped):
        return x
    columns = np.flatnonzero(inputs.warped)
    a, b = jnp.exp(parameters[inputs.scales + 2 :]).reshape(2, -1)
    inside = jnp.clip(x[:, columns], 1e-9, 1 - 1e-9)  # where its derivatives are finite
    return jnp.asarray(x).at[:, columns].set(1 - (1 - inside**a) ** b)


def padded(x: np.ndarray, y: np.ndarray, more: int = 0):
    """Rows up to the next size, with room for so many more: x, y, and which rows are there.

    Sizes are 32, 64, 128, 256, 384, 512, 768, 1024 ...
    """
    count, size = len(x), 32
    while size < count + more:
        whole = size & (size - 1) == 0  # a power of 2
        size += size if size < 256 else size // 2 if whole else size // 3
    rows = (0, size - count)
    x = np.pad(x, (rows, (0, 0)), constant_values=0.5)
    return x, np.pad(y, (rows,)), np.arange(size) < count


def _covariance_of_observations(parameters, x, present, inputs: Inputs):
    """Rows of padding are those of the identity: they add nothing to a likelihood."""
    both = present[:, None] & present[None]
    matrix = jnp.where(both, covariance(parameters, x, x, inputs), 0.0)
    return matrix + jnp.diag(jnp.where(present, noise_of(parameters, inputs), 1.0))


def _inverse_root(matrix):
    identity = jnp.eye(len(matrix), dtype=matrix.dtype)
    return solve_triangular(jnp.linalg.cholesky(matrix), identity, lower=True)


def inverse_root(parameters, x, present, inputs: Inputs):
    """Return the inverse of the Cholesky factor of the covariance of observations: (n, n)."""
    return _inverse_root(_covariance_of_observations(parameters, x, present, inputs))


@functools.partial(jax.jit, static_argnames="inputs")
def loss_and_gradient(parameters, x, y, present, *, inputs: Inputs):
    """Minus the log posterior density of the parameters, but for a constant; x, y are padded.

    The gradient is (K^-1 - w w^T) / 2 with w = K^-1 y, pulled back from K to the parameters, which
    costs less than one through the Cholesky factor.
    """
    matrix, pull = jax.vjp(
        lambda parameters: _covariance_of_observations(parameters, x, present, inputs), parameters
    )
    root = _inverse_root(matrix)
    inverse = root.T @ root
    weights = inverse @ y
    mean, deviation = inputs.prior.T
    prior = (parameters - mean) / deviation
    loss = 0.5 * y @ weights - jnp.log(jnp.diag(root)).sum() + 0.5 * (prior**2).sum()
    (gradient,) = pull(0.5 * (inverse - jnp.outer(weights, weights)))
    return loss, gradient + prior / deviation


def fit(x: np.ndarray, y: np.ndarray, inputs: Inputs) -> np.ndarray:
    """Return the parameters of the largest posterior density, by L-BFGS-B from two starts.

    One is the mean of the prior; the other takes the function for rougher and noisier, for either
    may be where the likelihood has its lesser hill. Of many observations, some decide which is
    followed, and all of them have the last word.

    Args:
      x: (n, columns), in [0, 1].
      y: (n,), of mean 0 and variance 1.
      inputs: what the columns are.
    """
    smooth = inputs.prior[:, 0]
    rough = smooth.copy()
    rough[: inputs.scales] -= 1
    rough[inputs.scales + 1] = -3
    some = np.arange(len(x))
    if len(x) > _FEW:
        least = np.argsort(y, kind="stable")
        spread = np.linspace(_FEW // 2, len(x) - 1, _FEW - _FEW // 2).astype(int)
        some = np.sort(np.concatenate([least[: _FEW // 2], least[spread]]))
    found = [_descended(start, x[some], y[some], inputs, 100) for start in (smooth, rough)]
    least = min(found, key=lambda result: result.fun).x
    return least if len(some) == len(x) else _descended(least, x, y, inputs, 15).x


def _descended(start, x, y, inputs: Inputs, steps: int):
    from scipy.optimize import minimize

    x, y, present = padded(x, y)

    def loss(parameters):
        value, gradient = loss_and_gradient(parameters, x, y, present, inputs=inputs)
        return float(value), np.asarray(gradient)

    start = np.clip(start, *inputs.bounds.T)
    options = {"maxiter": steps}
    return minimize(loss, start, jac=True, method="L-BFGS-B", bounds=inputs.bounds, options=options)
