"""Convert inputs to float32, as differences to an offset if float32 would lose digits.

Near 1.7e9, as for Unix seconds, float32 holds only multiples of 128. If the values of a feature lie
far from 0 compared with their standard deviation, a number near the mean is subtracted on the host.
This subtraction is exact; only the difference is rounded. The offset is a numerical device, not a
statistic: all folds of a data set share one offset. Checkpoints store it with the preprocessing
statistics, and code that loads data for a checkpoint uses that offset. It is stored as two float32
numbers, because a train state holds no float64; float64 holds their sum exactly. In images all
pixels of a channel share an offset, because augmentation moves pixels. In other inputs each feature
has its own.
"""

import numpy as np

from research.data.moments import CHANNEL, EPSILON, EXAMPLE, moments

_ROUNDING = 2.0**-24  # of float32, relative
_LOST = 2.0**-10  # the share of a feature's deviation that rounding may cost
_CHUNK = 2**22  # numbers that are converted at a time
_SAMPLE = 2**20  # size of the sample in which equal float32 values are counted


def chosen(inputs: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """Return the offset that these inputs need.

    A feature needs an offset if rounding its largest value costs more than a thousandth of its
    standard deviation. A deviation that is itself float64 rounding does not count.

    Args:
      inputs: of the training split, (N, ...), not uint8.
      low: the minimum of each feature.
      high: the maximum of each feature.

    Returns:
      The offset, float64, with the shape of one example, for images (C,); 0 for features that need
      none. None if no feature needs an offset.
    """
    features = CHANNEL if inputs.ndim == 4 else EXAMPLE
    if features is CHANNEL:
        low, high = low.min((0, 1)), high.max((0, 1))
    magnitude = np.maximum(np.abs(low.astype(np.float64)), np.abs(high.astype(np.float64)))
    # The deviation of n numbers with this range is at least range / sqrt(2 n). Most data pass this
    # test and need no exact deviation.
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
        limits = np.iinfo(inputs.dtype)  # float64 may round these up, out of range
        mean = np.trunc(mean.clip(limits.min, np.nextafter(float(limits.max), 0)))
    return np.where(far, parts(mean).sum(0, dtype=np.float64), 0.0)


def parts(offset: np.ndarray) -> np.ndarray:
    """Return the two float32 arrays (2, ...) whose sum is nearest to an offset."""
    high = offset.astype(np.float32)
    return np.stack([high, (offset - high).astype(np.float32)])


def of(statistics: dict | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """Return the offset, float64, in a checkpoint's statistics; None if there is none.

    Also return None if the offset does not fit examples of this shape, because the data changed.
    """
    found = (statistics or {}).get("offset")
    if found is None or found.shape[1:] not in (shape, shape[-1:]):
        return None
    return np.asarray(found).sum(0, dtype=np.float64)


def subtracted(inputs: np.ndarray, offset: np.ndarray | None) -> np.ndarray:
    """Return inputs - offset, with a single rounding to float32."""
    if offset is None:
        return inputs.astype(np.float32, copy=False)
    result = np.empty(inputs.shape, np.float32)
    start = 0
    for chunk in _chunks(inputs):
        result[start : start + len(chunk)] = _difference(chunk, offset)
        start += len(chunk)
    return result


def messages(inputs: np.ndarray, offset: np.ndarray | None) -> tuple[str, ...]:
    """Return a line about the offset, and a line about values that become equal in float32.

    Args:
      inputs: of the training split, before conversion.
      offset: from `chosen`, or from a checkpoint.
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
    """Return inputs - origin in float64 or wider; 64-bit integers are subtracted exactly."""
    rounded = inputs - np.asarray(origin, np.float64)
    if inputs.dtype.kind not in "iu" or inputs.dtype.itemsize < 8:
        return rounded
    # The difference modulo 2^64 is the true difference if that is less than 2^63.
    whole = origin.astype(np.uint64 if inputs.dtype.kind == "u" else np.int64)
    exact = (inputs.astype(np.uint64) - whole.astype(np.uint64)).astype(np.int64)
    return np.where(np.abs(rounded) < 2.0**62, exact, rounded)
