"""From arrays on the host to what a compiled program reads on the device."""

import jax
import jax.numpy as jnp
import numpy as np


def to_device(inputs: np.ndarray, labels: np.ndarray) -> dict[str, jax.Array]:
    """Puts a split on the device as it is: bytes stay bytes.

    Returns:
      {'inputs': (N, ...), 'labels': int32 (N,)}.
    """
    return {"inputs": jnp.asarray(inputs), "labels": jnp.asarray(labels, jnp.int32)}


def preprocess(statistics, inputs: jax.Array) -> jax.Array:
    """(inputs - shift) * scale, float32 (B, ...), by statistics of data/preprocessing.py."""
    return (inputs.astype(jnp.float32) - statistics["shift"]) * statistics["scale"]


def padded_batches(inputs: np.ndarray, labels: np.ndarray, batch_size: int) -> dict[str, jax.Array]:
    """Cuts a split into equal batches for evaluation; the last is padded with masked examples.

    Args:
      inputs: (N, ...), N at least 1.
      labels: int (N,).
      batch_size: at most this many examples in a batch; less where that leaves less padding.

    Returns:
      {'inputs': (K, B, ...), 'labels': int32 (K, B), 'mask': bool (K, B)} on the device; the mask
      is True exactly N times.
    """
    examples = len(labels)
    count = -(-examples // batch_size)
    size = -(-examples // count)
    padding = count * size - examples

    def cut(array):
        padded = np.concatenate([array, np.zeros((padding, *array.shape[1:]), array.dtype)])
        return jnp.asarray(padded.reshape(count, size, *array.shape[1:]))

    return {
        "inputs": cut(inputs),
        "labels": cut(labels.astype(np.int32)),
        "mask": cut(np.ones(examples, bool)),
    }
