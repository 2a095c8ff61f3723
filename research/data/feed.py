"""Turn arrays on the host into the arrays that a compiled program reads on the device."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from research.data import mirrored
from research.data.dataset import compact


def to_device(inputs: np.ndarray, labels: np.ndarray) -> dict[str, jax.Array]:
    """Put a split on the device; bytes stay bytes.

    Returns:
      {'inputs': (N, ...), 'labels': (N, ...)}, labels in the dtype of their kind.
    """
    return {"inputs": jnp.asarray(inputs), "labels": jnp.asarray(compact(labels))}


def preprocess(statistics, inputs: jax.Array) -> jax.Array:
    """Return (inputs - shift) * scale, then `turned`: float32 (B, ...).

    Statistics without a shift are those of the scheme `identity`: return the inputs unchanged, in
    their own dtype.
    """
    if "shift" not in statistics:
        return inputs
    x = (inputs.astype(jnp.float32) - statistics["shift"]) * statistics["scale"]
    return turned(statistics, x)


def turned(statistics, x: jax.Array) -> jax.Array:
    """Apply the matrix or the filters of preprocessing, if it has any."""
    if "matrix" in statistics:
        matrix = statistics["matrix"]
        rows = x.reshape(len(x), len(matrix))
        # Accelerators need full precision too: small components are differences of large numbers.
        rows = jnp.matmul(rows, matrix.reshape(len(matrix), -1), precision=lax.Precision.HIGHEST)
        x = rows.reshape(len(x), *matrix.shape[1:])
    if "filters" in statistics:
        x = mirrored.convolve(statistics["filters"], x)
    return x


def inverted(statistics, outputs) -> np.ndarray:
    """Return the inputs that `preprocess` maps to these outputs, for pictures.

    The host computes them in float64. The result is exact; components that preprocessing dropped
    are 0 in it.

    Args:
      statistics: statistics from data/preprocessing.py.
      outputs: (B, ...).

    Returns:
      Float64 (B, ...), with the shape and in the units of the inputs.
    """
    x = np.asarray(outputs, np.float64)
    if "shift" not in statistics:
        return x
    names = ("shift", "scale", "matrix", "filters")
    statistics = {
        name: np.asarray(statistics[name], np.float64) for name in names if name in statistics
    }
    if "filters" in statistics:
        x = mirrored.deconvolve(statistics["filters"], x)
    if "matrix" in statistics:
        matrix = statistics["matrix"].reshape(len(statistics["matrix"]), -1)
        rows = np.linalg.solve(matrix.T @ matrix, x.reshape(len(x), -1).T).T @ matrix.T
        x = rows.reshape(len(x), *statistics["shift"].shape)
    return x / statistics["scale"] + statistics["shift"]


def padded_batches(
    inputs: np.ndarray, labels: np.ndarray, batch_size: int, multiple: int = 1
) -> dict[str, np.ndarray]:
    """Cut a split into equal batches for evaluation; pad the last one with masked examples.

    They repeat the first examples: what modules sow is a mean over whole batches.

    Args:
      inputs: (N, ...), N at least 1.
      labels: (N, ...), of any kind.
      batch_size: largest number of examples in a batch; batches are smaller if that needs less
        padding.
      multiple: number of devices that share a batch; it divides the size of a batch.

    Returns:
      {'inputs': (K, B, ...), 'labels': (K, B, ...), 'mask': bool (K, B)}; the mask is True exactly
      N times. Labels have the dtype of their kind.
    """
    examples = len(labels)
    count = -(-examples // batch_size)
    size = -(-examples // count)
    size = -(-size // multiple) * multiple
    padding = count * size - examples

    repeated = np.arange(padding) % examples

    def cut(array):
        padded = np.concatenate([array, array[repeated]])
        return padded.reshape(count, size, *array.shape[1:])

    return {
        "inputs": cut(inputs),
        "labels": cut(compact(labels)),
        "mask": (np.arange(count * size) < examples).reshape(count, size),
    }
