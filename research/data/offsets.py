"""Inputs of any dtype in float32, as differences to an offset where float32 would lose digits.

Unix seconds, 1.7e9, are multiples of 128 in float32. So of a feature whose values lie far from 0
against their deviation, a number near the mean is subtracted on the host, exactly, and only the
difference is rounded. The offset is a numerical device, not a statistic: one for the data set,
which all folds share; it lies in checkpoints with the statistics of preprocessing, and whoever
loads data for a checkpoint takes that one. It is the sum of two float32, which a state can hold,
and which float64 holds exactly. Of images all numbers of a channel share an offset, because
augmentation moves pixels; else each number of an example has its own.
"""

import numpy as np

from research.data.moments import CHANNEL, EPSILON, EXAMPLE, moments

_ROUNDING = 2.0**-24  # of float32, relative
_LOST = 2.0**-10  # the share of a feature's deviation that rounding may cost
_CHUNK = 2**22  # numbers that are converted at a time
_SAMPLE = 2**20  # numbers that are looked at for values that fall together


def chosen(inputs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """Return the offset that these inputs need.

    A feature needs one where rounding its largest value costs more than a thousandth of its
    deviation, unless the deviation is itself rounding of float64.

    Args:
      inputs: of the training split, (N, ...), not uint8.
      low, high: the least and the largest value of each number of an example.

    Returns:
      Float64, of one example's shape, of images (C,); 0 for features that need none. None where
      no feature does.
    """
    features = CHANNEL if inputs.ndim == 4 else EXAMPLE
    if features is CHANNEL:
        low, high = low.min((0, 1)), high.max((0, 1))
    magnitude = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    # Of n numbers with this range the deviation is at least range / sqrt(2 n): most data need no
    # further look.
    least = _difference(high, low) / np.sqrt(2 * inputs.size / low.size)
    if not ((least > 0) & (magnitude * _ROUNDING > _LOST * least)).any():
        return None
    _, mean, variance = moments((_difference(chunk, low) for chunk in _chunks(inputs)), features)
    deviation = np.sqrt(variance)
    noise = 2 * EPSILON * magnitude if inputs.dtype.kind == "f" else 0.0
    far = (deviation > noise) & (magnitude * _ROUNDING > _LOST * deviation)
    if not far.any():
        return None
    mean = mean + low.astype(np.float64)
    if inputs.dtype.kind in "iu":
        limits = np.iinfo(inputs.dtype)  # which float64 may round up to what is out of range
        mean = np.trunc(mean.clip(limits.min, np.nextafter(float(limits.max), 0)))
    return np.where(far, parts(mean).sum(0, dtype=np.float64), 0.0)


def parts(offset: np.ndarray) -> np.ndarray:
    """Return the two float32 (2, ...) whose sum is an offset, or the nearest there is."""
    high = offset.astype(np.float32)
    return np.stack([high, (offset - high).astype(np.float32)])


def of(statistics: dict | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the offset, float64, in a checkpoint's statistics; None: there is none.

    None too where it is not one for examples of this shape, because the data are others now.
    """
    found = (statistics or {}).get("offset")
    if found is None or found.shape[1:] not in (shape, shape[-1:]):
        return None
    return np.asarray(found).sum(0, dtype=np.float64)


def subtracted(inputs: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    """Return inputs - offset, rounded to float32 once."""
    if offset is None:
        return inputs.astype(np.float32, copy=False)
    result = np.empty(inputs.shape, np.float32)
    start = 0
    for chunk in _chunks(inputs):
        result[start : start + len(chunk)] = _difference(chunk, offset)
        start += len(chunk)
    return result


def messages(inputs: np.ndarray, offset: np.ndarray | None) -> tuple[str, ...]:
    """Return a line about the offset, and one about values that float32 cannot tell apart.

    Args:
      inputs: of the training split, as the user has them.
      offset: of `chosen`, or of a checkpoint.
    """
    found = []
    if offset is not None:
        far = np.flatnonzero(offset)
        found.append(
            f"inputs: {len(far)} of {offset.size} features lie far from 0 against their deviation "
            f"(feature {far[0]} near {offset.flat[far[0]]:.10g}): kept as differences to that, "
            "which float32 holds"
        )
    if np.can_cast(inputs.dtype, np.float32) or len(inputs) < 2:
        return tuple(found)
    rows = np.linspace(0, len(inputs) - 1, min(len(inputs), 512, _SAMPLE // inputs[0].size + 2))
    sample = np.sort(inputs[rows.astype(int)], axis=0).reshape(len(rows), -1)
    kept = subtracted(sample.reshape(-1, *inputs.shape[1:]), offset).reshape(sample.shape)
    apart = _difference(sample[1:], sample[:-1])
    if inputs.dtype.kind == "f":
        apart = np.where(apart > 4 * EPSILON * np.abs(sample[1:]), apart, 0)
    merged = (apart > 0) & (kept[1:] == kept[:-1])
    shares = merged.mean(0)
    lost = np.flatnonzero(shares > 0.01)
    if lost.size:
        worst = lost[shares[lost].argmax()]
        row = merged[:, worst].argmax()
        found.append(
            f"inputs: float32 cannot tell apart {shares[worst]:.0%} of the neighbouring values of "
            f"feature {worst}, such as {sample[row, worst]} and {sample[row + 1, worst]} "
            f"({lost.size} such features)"
        )
    return tuple(found)


def _chunks(inputs: np.ndarray):
    size = max(1, _CHUNK // inputs[0].size)
    return (inputs[start : start + size] for start in range(0, len(inputs), size))


def _difference(inputs: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Return inputs - origin in float64, or wider; of 64-bit integers exactly, then rounded."""
    rounded = inputs - np.asarray(origin, np.float64)
    if inputs.dtype.kind not in "iu" or inputs.dtype.itemsize < 8:
        return rounded
    # Modulo 2^64, which is the difference where that is less than 2^63.
    whole = origin.astype(np.uint64 if inputs.dtype.kind == "u" else np.int64)
    exact = (inputs.astype(np.uint64) - whole.astype(np.uint64)).astype(np.int64)
    return np.where(np.abs(rounded) < 2.0**62, exact, rounded)
