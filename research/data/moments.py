"""Compute means, variances and covariances of chunks of examples in one float64 pass.

Memory holds one chunk and the result. `chunks` is any iterable of arrays (n, ...), such as
`[inputs]`, or the inputs of `stream.chunks` for data in memory and on disk. Sums are relative to
the first row, so that a large common offset costs no digits. Sums of bytes are exact for all sizes
of a chunk.

A feature is constant if its variance is within the rounding of this computation. The sums add n
squares one after the other, so the error of their mean is at most n eps E[d^2]. Here d is the
distance to the first row, and E[d^2] = variance + (mean - first row)^2. Values that were computed
in float64 have an error of up to an ulp, eps |mean|. There is no threshold in units of the inputs:
a feature and 1e-30 times that feature are treated alike.
"""

from collections.abc import Callable, Iterable

import numpy as np

# The axes of an example that index features; the other axes count as repetitions.
TOGETHER = slice(0, 0)
CHANNEL = slice(-1, None)
EXAMPLE = slice(1, None)
EPSILON = float(np.finfo(np.float64).eps)


def squares(rows: np.ndarray) -> np.ndarray:
    """Return the sum of the squares of each feature, for variances: (n, ...) -> (...)."""
    return np.square(rows).sum(0)


def products(rows: np.ndarray) -> np.ndarray:
    """Return the sums of all products of two features, for covariances: (n, ...) -> (D, D)."""
    flat = rows.reshape(len(rows), -1)
    return flat.T @ flat


def moments(
    chunks: Iterable[np.ndarray], features: slice, second: Callable = squares
) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of rows, their mean and their variance or covariance.

    Args:
      chunks: arrays (n, ...).
      features: TOGETHER, CHANNEL or EXAMPLE.
      second: `squares` for variances, `products` for the covariance matrix.

    Returns:
      The count; the mean, with the shape of the features; the variance, of the same shape, or the
      covariance (D, D). The divisor is the count, not the count minus one. The (co)variance of a
      constant feature is exactly 0.
    """
    count, first, sums, origin = 0, 0.0, 0.0, None
    for chunk in chunks:
        rows = chunk.reshape(-1, *chunk.shape[features])
        if origin is None:
            origin = rows[0].astype(np.float64)
        rows = rows - origin
        count += len(rows)
        first = first + rows.sum(0)
        sums += second(rows)
    mean = first / count
    sums /= count
    sums -= second(mean[None])
    variance = sums if sums.shape == mean.shape else np.diagonal(sums).reshape(mean.shape)
    rounding = count * EPSILON * (variance + np.square(mean))
    rounding = rounding + np.square(2 * EPSILON * (mean + origin))
    constant = variance <= rounding
    if constant.any():
        if sums.shape != mean.shape:
            constant = np.logical_or.outer(constant.ravel(), constant.ravel())
        sums = np.where(constant, 0.0, sums)
    return count, mean + origin, sums
