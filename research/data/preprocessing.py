"""Preprocessing: statistics fitted on the training examples, applied on the device.

Each public function fits one scheme: inputs (N, ...) -> {'shift', 'scale'}, two float32 arrays that
broadcast against one example; the network then sees (x - shift) * scale. The statistics travel in
the train state, so a checkpoint always carries those its weights were trained with.
"""

import numpy as np

Statistics = dict[str, np.ndarray]

# Below this standard deviation (in input units) a feature counts as constant and is only centred.
_CONSTANT = 1e-6
_CHUNK = 4096  # examples in float64 at a time


def none(inputs: np.ndarray) -> Statistics:
    """Leaves floats as they are; bytes are divided by 255."""
    scale = 1 / 255 if inputs.dtype == np.uint8 else 1.0
    return _statistics(0.0, scale)


def min_max(inputs: np.ndarray) -> Statistics:
    """Scales the range of all inputs to [-1, 1]."""
    low, high = float(inputs.min()), float(inputs.max())
    return _statistics((low + high) / 2, 2 / (high - low) if high > low else 1.0)


def global_standard(inputs: np.ndarray) -> Statistics:
    """Mean 0 and standard deviation 1 over all numbers together."""
    return _standard(inputs, per_feature_axes=0)


def per_channel(inputs: np.ndarray) -> Statistics:
    """Mean 0 and standard deviation 1 for each channel (the last axis)."""
    return _standard(inputs, per_feature_axes=1)


def mean_image(inputs: np.ndarray) -> Statistics:
    """Subtracts the mean image; divides by one standard deviation of what is left.

    Dividing each pixel by its own deviation would blow up pixels that are almost constant (the
    borders of MNIST); `per_pixel` does that.
    """
    mean, variance = _moments(inputs, per_feature_axes=inputs.ndim - 1)
    deviation = float(np.sqrt(variance.mean()))
    return _statistics(mean, 1 / deviation if deviation > _CONSTANT else 1.0)


def per_pixel(inputs: np.ndarray) -> Statistics:
    """Mean 0 and standard deviation 1 for each number of an example (constant ones: mean 0)."""
    return _standard(inputs, per_feature_axes=inputs.ndim - 1)


def _standard(inputs: np.ndarray, per_feature_axes: int) -> Statistics:
    mean, variance = _moments(inputs, per_feature_axes)
    deviation = np.sqrt(variance)
    return _statistics(mean, 1 / np.where(deviation > _CONSTANT, deviation, 1.0))


def _moments(inputs: np.ndarray, per_feature_axes: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all but the last `per_feature_axes` axes, one pass, in float64.

    The sums are taken about the first example, so that a large common offset costs no digits.
    """
    axes = tuple(range(inputs.ndim - per_feature_axes))
    count = inputs.size / np.prod(inputs.shape[len(axes) :])
    origin = inputs[:1].mean(axis=axes, dtype=np.float64)
    first, second = 0.0, 0.0
    for start in range(0, len(inputs), _CHUNK):
        chunk = inputs[start : start + _CHUNK].astype(np.float64) - origin
        first = first + chunk.sum(axis=axes)
        second = second + np.square(chunk).sum(axis=axes)
    mean = first / count
    return mean + origin, second / count - np.square(mean)


def _statistics(shift, scale) -> Statistics:
    return {"shift": np.asarray(shift, np.float32), "scale": np.asarray(scale, np.float32)}
