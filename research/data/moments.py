"""Means, variances and covariances of examples that come in chunks: one pass, in float64.

Memory is that of one chunk and of the result. `chunks` is any iterable of arrays (n, ...), as
`stream.chunks` gives them for data in memory and on disk; `[inputs]` is one. Sums are taken about
the first row, so that a large common offset costs no digits; those of bytes are exact, however
they are cut into chunks.

A feature is constant where its variance is within the rounding of this computation. The sums add n
squares one after the other, so their mean is off by at most n eps E[d^2], d the distance to the
first row and E[d^2] = variance + (mean - first row)^2; and the values themselves, where they were
computed in float64, are off by up to an ulp, eps |mean|. There is no threshold in units of the
inputs: a feature and 1e-30 times that feature are treated alike.
"""

from collections.abc import Callable, Iterable

import numpy as np

# Which axes of an example stand for features; all others count as repetitions.
TOGETHER = slice(0, 0)
CHANNEL = slice(-1, None)
EXAMPLE = slice(1, None)
EPSILON = float(np.finfo(np.float64).eps)


def squares(rows: np.ndarray) -> np.ndarray:
    """The sum of the squares of each feature, for variances: (n, ...) -> (...)."""
    return np.square(rows).sum(0)


def products(rows: np.ndarray) -> np.ndarray:
    """The sum of all products of two features, for covariances: (n, ...) -> (D, D)."""
    flat = rows.reshape(len(rows), -1)
    return flat.T @ flat


def moments(
    chunks: Iterable[np.ndarray], features: slice, second: Callable = squares
) -> tuple[int, np.ndarray, np.ndarray]:
    """The number of rows, their mean and their (co)variance.

    Args:
      chunks: (n, ...) each.
      features: TOGETHER, CHANNEL or EXAMPLE.
      second: `squares` for variances, `products` for the covariance matrix.

    Returns:
      The count; the mean, of the features' shape; the variance, alike, or the covariance (D, D).
      Divided by the count, not by one less; exactly 0 where a feature is constant.
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
