"""Means, variances and covariances of examples that come in chunks: one pass, in float64.

Memory is that of one chunk and of the result. `chunks` is any iterable of arrays (n, ...), as
`stream.chunks` gives them for data in memory and on disk; `[inputs]` is one. Sums are taken about
the first row, so that a large common offset costs no digits; those of bytes are exact, however
they are cut into chunks.
"""

from collections.abc import Callable, Iterable

import numpy as np

# Which axes of an example stand for features; all others count as repetitions.
TOGETHER = slice(0, 0)
CHANNEL = slice(-1, None)
EXAMPLE = slice(1, None)


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
      Divided by the count, not by one less.
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
    return count, mean + origin, sums
