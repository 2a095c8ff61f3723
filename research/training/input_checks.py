"""Refuse inputs that do not fit their preprocessing or augmentation, or warn of them.

The checks skip bytes, which have no outliers and differ by a factor of at most 255, and numbers of
tokens. They also skip images on disk, which are bytes or have 16 bits.
"""

import inspect

import numpy as np
from ml_collections import ConfigDict

from research.data import offsets, preprocessing
from research.data.checks import feature_name
from research.data.dataset import Arrays, Records
from research.errors import UserError
from research.names import resolve

# Squares of larger numbers overflow float32; normalisers, norms and gradients compute squares.
_MOST = 2.0**64
_LARGEST = float(np.finfo(np.float32).max)
_FULL_PRECISION = 2.0**-103  # 23 bits above what devices flush to 0
LARGE_INPUTS = 10.0  # root mean square of what the network sees; 1 is usual
_FAR = 1000  # times as far from the mean as any training example
_VANISHING = 1e-3  # of the largest value; a feature that varies less is lost beside it
_BULK = 1e-4  # of the deviation; if half of the values lie closer together, the others dwarf them
_SAMPLE = 2**19  # numbers in the sample for quartiles


def check_values(
    config: ConfigDict,
    train: Arrays | Records,
    held_out: dict[str, Arrays | Records],
    statistics: dict,
) -> None:
    """Refuse values that are too large for float32 after preprocessing.

    Raises:
      UserError: a preprocessed value beyond 2^64, or a value whose distance to the shift
        overflows. The message names the split, the example, the feature and the value.
    """
    for name, split in {"train": train, **held_out}.items():
        if not _checked(split):
            continue
        distance, scale = _distance(split, statistics)
        bad = (distance > _LARGEST) | (distance * scale > _MOST)
        if bad.any():
            raise UserError(
                f"{_worst(name, split, statistics, np.where(bad, distance * scale, 0))}, and "
                f"{(distance * scale).max():.3g} once preprocessed by "
                f"config.preprocessing.name = {config.preprocessing.name!r}: its square overflows "
                f"float32 (allowed: at most {_MOST:.2g})"
            )


def warnings(
    config: ConfigDict,
    train: Arrays | Records,
    held_out: dict[str, Arrays | Records],
    statistics: dict,
) -> list[str]:
    """Return a warning for each way in which inputs are likely to be lost or destroyed."""
    lines = _covering(config, train)
    if _checked(train):
        lines += _unscaled(config, train, statistics)
        lines += _vanishing(config, train, statistics)
        lines += _dwarfed(train, statistics)
        lines += _tiny(train)
        lines += _far(train, held_out, statistics)
    return lines


def _unscaled(config: ConfigDict, train: Arrays, statistics: dict) -> list[str]:
    """Warn of inputs far from 1 that nothing brings there."""
    if config.preprocessing.name != "none" or config.model.normalization != "none":
        return []
    rows = np.linspace(0, len(train) - 1, min(len(train), 512, 4 + _SAMPLE // train.inputs[0].size))
    seen = train.inputs[rows.astype(int)].astype(np.float64) - np.float64(statistics["shift"])
    size = float(np.sqrt(np.square(seen * np.float64(statistics["scale"])).mean()))
    if not size > LARGE_INPUTS:
        return []
    return [
        f"inputs have a root mean square of {size:.3g}, and config.preprocessing.name = 'none' and "
        "config.model.normalization = 'none' leave them so (usual: 1)"
    ]


def _covering(config: ConfigDict, train: Arrays | Records) -> list[str]:
    """Warn of augmentation that leaves at most half of an image, or of its signal."""
    settings, shape = config.augmentation, train.shape
    lines = []
    if "cutout" in settings.names:
        covered = np.prod([min(settings.cutout_size / side, 1) for side in shape[:2]])
        if covered >= 0.5:
            lines.append(
                f"config.augmentation.cutout_size = {settings.cutout_size:g} covers up to "
                f"{covered:.0%} of images of {shape[0]} x {shape[1]} (more usual: a quarter, "
                f"{np.sqrt(shape[0] * shape[1] / 4):.2g})"
            )
    if "crop" in settings.names:
        kept = np.prod([1 - min(settings.crop_padding, side - 1) / side for side in shape[:2]])
        if kept <= 0.5:
            lines.append(
                f"config.augmentation.crop_padding = {settings.crop_padding} moves up to "
                f"{1 - kept:.0%} of images of {shape[0]} x {shape[1]} out of sight (more usual: "
                f"an eighth of the side, {max(1, min(shape[:2]) // 8)})"
            )
    if "noise" in settings.names:
        noise = settings.noise
        if isinstance(train, Arrays) and train.dtype == np.uint8:  # noise is a share of 255
            noise *= 255 / max(int(train.inputs.max()) - int(train.inputs.min()), 1)
        if noise >= 0.5:
            lines.append(
                f"config.augmentation.noise = {settings.noise:g} is a deviation of {noise:.0%} of "
                "the range of the images: little is left to see (more usual: 5%)"
            )
    if "color_jitter" in settings.names:
        for name in ("brightness", "contrast", "saturation"):
            if settings[name] >= 1:
                lines.append(
                    f"config.augmentation.{name} = {settings[name]:g} multiplies by 0 or less at "
                    "times, which leaves nothing or turns it over (more usual: 0.2)"
                )
    return lines


def _vanishing(config: ConfigDict, train: Arrays, statistics: dict) -> list[str]:
    """Warn of features that hardly vary compared with others of the same scale.

    The test compares ranges, and in images the ranges of whole channels: pixels at the border are
    almost always black, so their small deviation is no problem.
    """
    low, high = (np.asarray(values, np.float64) for values in train.extremes)
    distance, scale = _distance(train, statistics)
    images = low.ndim == 3
    if images:
        low, high, distance = low.min((0, 1)), high.max((0, 1)), distance.max((0, 1))
    if scale.ndim >= low.ndim:  # each feature has its own scale
        return []
    span = (high - low) * scale
    # Rounding alone can make a constant vary by this much.
    varies = high - low > 4 * np.finfo(np.float32).eps * np.maximum(np.abs(low), np.abs(high))
    reach = (distance * scale).max()
    function = resolve("config.preprocessing.name", config.preprocessing.name, preprocessing)
    if "epsilon" in inspect.signature(function).parameters:  # whitening adds epsilon
        span, reach = (
            value / np.sqrt(np.square(value) + config.preprocessing.epsilon)
            for value in (span, reach)
        )
    lost = varies & (span < _VANISHING * reach)
    if not lost.any():
        return []
    worst = np.where(lost, span, np.inf).argmin()
    which = "channel" if images else "feature"
    place = feature_name(np.unravel_index(worst, low.shape))
    return [
        f"config.preprocessing.name = {config.preprocessing.name!r} gives {which}s one scale: "
        f"{which} {place} then varies by {span.flat[worst]:.2g} where inputs "
        f"reach {reach:.2g}, and is all but lost ({lost.sum()} of {lost.size} {which}s; made for "
        f"it: '{'per_channel' if images else 'per_pixel'}')"
    ]


def _dwarfed(train: Arrays, statistics: dict) -> list[str]:
    """Warn of features with outliers so large that half of the values are lost beside them."""
    rows = np.linspace(0, len(train) - 1, min(len(train), 512, 4 + _SAMPLE // train.inputs[0].size))
    sample = np.sort(train.inputs[rows.astype(int)], axis=0)
    quarter = len(rows) // 4
    middle = sample[len(rows) - 1 - quarter].astype(np.float64) - sample[quarter]
    low, high = (np.asarray(values, np.float64) for values in train.extremes)
    span = high - low
    # Compare the middle half with the range: one outlier of n makes a range of sqrt(n) deviations.
    lost = (middle > 4 * np.finfo(np.float32).eps * np.abs(sample[quarter])) & (
        middle < _BULK * span / np.sqrt(len(train))
    )
    if not lost.any():
        return []
    ratio = np.where(lost, span / np.where(lost, middle, 1.0), 0)
    return [
        f"{_worst('train', train, statistics, ratio)}; half of the values of that feature lie "
        f"within {middle.flat[ratio.argmax()]:.2g}, and are all but lost beside it "
        f"({lost.sum()} such features; made for it: a logarithm, or to cut such values off)"
    ]


def _tiny(train: Arrays) -> list[str]:
    """Warn of features whose range is so small that devices keep few or no digits of it."""
    low, high = (np.asarray(values, np.float64) for values in train.extremes)
    tiny = (high > low) & (high - low < _FULL_PRECISION)
    if not tiny.any():
        return []
    place = np.unravel_index(tiny.argmax(), tiny.shape)
    return [
        f"feature {feature_name(place)} varies by {(high - low)[place]:.2g}, of which float32 "
        f"keeps few digits or none ({tiny.sum()} such features; made for it: another unit)"
    ]


def _far(train: Arrays, held_out: dict, statistics: dict) -> list[str]:
    """Warn of values in other splits far beyond all values of the training split."""
    distance, scale = _distance(train, statistics)
    most = max((distance * scale).max(), 1.0)
    lines = []
    for name, split in held_out.items():
        if _checked(split):
            distance, scale = _distance(split, statistics)
            far = distance * scale
            if far.max() > _FAR * most:
                lines.append(
                    f"{_worst(name, split, statistics, far)}, and {far.max():.3g} once "
                    f"preprocessed, where train has at most {most:.3g}"
                )
    return lines


def _checked(split: Arrays | Records) -> bool:
    return isinstance(split, Arrays) and split.dtype.kind == "f" and len(split) > 0


def _distance(split: Arrays, statistics: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest distance of each feature from its shift, and its scale."""
    shift, scale = _affine(statistics)
    low, high = split.extremes
    return np.maximum(np.abs(low - shift), np.abs(high - shift)), scale


def _affine(statistics: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift and the scale of the inputs, which the scheme `identity` does not have."""
    return np.float64(statistics.get("shift", 0)), np.float64(statistics.get("scale", 1))


def _worst(name: str, split: Arrays, statistics: dict, badness: np.ndarray) -> str:
    """Name the worst feature's furthest value: 'example 12 of the test split, feature 3, is 9'."""
    place = np.unravel_index(badness.argmax(), badness.shape)
    shift = np.broadcast_to(_affine(statistics)[0], badness.shape)[place]
    column = split.inputs[(slice(None), *place)].astype(np.float64)
    row = np.abs(column - shift).argmax()
    offset = offsets.of(statistics, split.shape)
    offset = 0.0 if offset is None else np.broadcast_to(offset, badness.shape)[place]
    return (
        f"example {split.number(row)} of the {name} split, feature {feature_name(place)}, is "
        f"{column[row] + offset:.6g}"
    )
