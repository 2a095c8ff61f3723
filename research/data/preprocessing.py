"""Preprocessing: statistics fitted on the training examples, applied on the device.

Each public function fits one scheme in one pass: chunks of inputs (n, ...) -> float32 arrays,
'shift' and 'scale' that broadcast against one example, and for whitening a 'matrix' or 'filters'.
The network then sees (x - shift) * scale, times the matrix or convolved with the filters
(`feed.preprocess`). The statistics travel in the train state, so a checkpoint always carries those
its weights were trained with.

Inputs may be kept as differences to an `offset` (data/offsets.py), float64 of one example's shape
or of its last axis; 0 stands for none. It is no part of a scheme: what the network sees is the same
function of the user's inputs with and without it.

A feature counts as constant, and is only centred, where its deviation is within the rounding error
of the sums it is computed from: data/moments.py. A scale is a normal number of float32: devices
take what is smaller than 2^-126 for 0.
"""

import itertools
from collections.abc import Iterable

import numpy as np

from research.data import mirrored
from research.data.moments import CHANNEL, EPSILON, EXAMPLE, TOGETHER, moments, products
from research.data.sources import grey_hint
from research.errors import UserError

Statistics = dict[str, np.ndarray]
_Chunks = Iterable[np.ndarray]

_LEAST_SCALE = 2.0**-126
_MOST_FEATURES = 64 * 64 * 3  # whose covariance, 1.2 GB, is still taken apart


def none(chunks: _Chunks, offset=0.0) -> Statistics:
    """Leaves floats as they are; bytes are divided by 255."""
    first = next(iter(chunks))
    return _statistics(0.0 - offset, 1 / 255 if first.dtype == np.uint8 else 1.0)


def min_max(chunks: _Chunks, offset=0.0) -> Statistics:
    """Scales the range of all inputs to [-1, 1]."""
    chunks, apart = _comparable(chunks, offset, TOGETHER)
    lows, highs = zip(*((float(chunk.min()), float(chunk.max())) for chunk in chunks), strict=True)
    low, high = min(lows), max(highs)
    varies = high - low > 2 * EPSILON * max(abs(low), abs(high))
    return _statistics((low + high) / 2 - apart, _inverse((high - low) / 2 if varies else 0.0))


def global_standard(chunks: _Chunks, offset=0.0) -> Statistics:
    """Mean 0 and standard deviation 1 over all numbers together."""
    return _standard(chunks, TOGETHER, offset)


def per_channel(chunks: _Chunks, offset=0.0) -> Statistics:
    """Mean 0 and standard deviation 1 for each channel (the last axis)."""
    return _standard(chunks, CHANNEL, offset)


def mean_image(chunks: _Chunks, offset=0.0) -> Statistics:
    """Subtracts the mean image; divides by one standard deviation of what is left.

    Dividing each pixel by its own deviation would blow up pixels that are almost constant (the
    borders of MNIST); `per_pixel` does that.
    """
    _, mean, variance = moments(chunks, EXAMPLE)
    return _statistics(mean, _inverse(np.sqrt(variance.mean())))


def per_pixel(chunks: _Chunks, offset=0.0) -> Statistics:
    """Mean 0 and standard deviation 1 for each number of an example (constant ones: mean 0)."""
    return _standard(chunks, EXAMPLE, offset)


def pca(chunks: _Chunks, offset=0.0, *, components: int) -> Statistics:
    """Decorrelates: `mean_image`, then the projection on the principal components, largest first.

    x -> U^T x, U the first eigenvectors of the covariance (Hotelling, 1933). Gives vectors.
    """
    mean, scale, _, directions = _principal(chunks, components)
    return _statistics(mean, scale, matrix=directions)


def pca_whitening(chunks: _Chunks, offset=0.0, *, components: int, epsilon: float) -> Statistics:
    """`pca`, then each component divided by sqrt(its variance + epsilon). Gives vectors.

    Variances are those after `mean_image`, 1 in the mean over pixels, so that epsilon means the
    same for all data; the covariance becomes variance / (variance + epsilon), almost 1.
    """
    mean, scale, variances, directions = _principal(chunks, components)
    return _statistics(mean, scale, matrix=directions / np.sqrt(variances + epsilon))


def zca(chunks: _Chunks, offset=0.0, *, epsilon: float) -> Statistics:
    """`pca_whitening` turned back, so that images look like images (Bell and Sejnowski, 1997).

    x -> U (variances + epsilon)^(-1/2) U^T x, of all whitenings that with the least change.
    CIFAR-10's 3,072 features take about a minute to fit on two busy cores: half for the covariance,
    half for its eigenvectors, which grows with the cube of the features.
    """
    mean, scale, variances, directions = _principal(chunks)
    matrix = (directions / np.sqrt(variances + epsilon)) @ directions.T
    return _statistics(mean, scale, matrix=matrix.reshape(-1, *mean.shape))


def patch_whitening(chunks: _Chunks, offset=0.0, *, patch_size: int, epsilon: float) -> Statistics:
    """ZCA of all patches of that side, as a convolution: each pixel becomes its patch's whitened
    centre (as Coates, Lee and Ng, 2011, whiten patches, but of the shape that the image has).

    Images go on, mirrored, past their borders. At each pixel the channels have covariance 1 (less
    epsilon's share), and neighbours are all but uncorrelated.
    """  # noqa: D205
    chunks, shape = _peek(chunks)
    if len(shape) != 3:
        raise UserError(
            "config.preprocessing.name = 'patch_whitening' works on images, the data have shape "
            f"{shape} (allowed here: all others{grey_hint(shape)})"
        )
    height, width, channels = shape
    if patch_size % 2 == 0 or patch_size > min(height, width):
        raise UserError(
            f"config.preprocessing.patch_size = {patch_size} on images of {height} x {width} "
            f"(allowed: odd, at most {min(height, width)})"
        )
    count, mean, spectrum = mirrored.spectrum(chunks)
    covariance = mirrored.covariance(spectrum, patch_size)
    _check_enough(count * height * width, len(covariance))
    scale, variances, directions = _taken_apart(covariance)
    centre = np.arange(len(covariance)).reshape(-1, channels)[patch_size**2 // 2]
    whitened = (directions / np.sqrt(variances + epsilon)) @ directions[centre].T
    filters = whitened.reshape(patch_size, patch_size, channels, channels)
    return _statistics(mean, scale, filters=filters)


def _standard(chunks: _Chunks, features: slice, offset) -> Statistics:
    chunks, apart = _comparable(chunks, offset, features)
    _, mean, variance = moments(chunks, features)
    return _statistics(mean - apart, _inverse(np.sqrt(variance)))


def _comparable(chunks: _Chunks, offset, features: slice) -> tuple:
    """Put back by how much offsets differ among the numbers that are one feature together.

    Returns:
      The chunks, and what was added to each example, float64; 0.0 where nothing was.
    """
    offset = np.asarray(offset, np.float64)[None]
    apart = (offset - offset.reshape(-1, *offset.shape[features])[0])[0]
    if not apart.any():
        return chunks, 0.0
    return (chunk + apart for chunk in chunks), apart


def _inverse(deviation):
    """1 / deviation, within float32's normal numbers; 1 where there is no deviation."""
    return 1 / np.where(deviation > 0, deviation, 1.0).clip(_LEAST_SCALE, 1 / _LEAST_SCALE)


def _principal(chunks: _Chunks, components: int = 0) -> tuple:
    """Mean, scale, variances (K,) and eigenvectors (D, K) of the covariance; 0 stands for all."""
    chunks, shape = _peek(chunks)
    features = int(np.prod(shape))
    if components > features:
        raise UserError(
            f"config.preprocessing.components = {components} is more than the {features} features "
            f"(allowed: 1 to {features}, 0 for all)"
        )
    if features > _MOST_FEATURES:
        raise UserError(
            f"config.preprocessing: {features} features have too large a covariance matrix "
            f"(allowed: {_MOST_FEATURES}, or patch_whitening for images)"
        )
    count, mean, covariance = moments(chunks, EXAMPLE, products)
    _check_enough(count, components or features)
    scale, variances, directions = _taken_apart(covariance)
    kept = slice(components or features)
    return mean, scale, variances[kept], directions[:, kept]


def _taken_apart(covariance: np.ndarray) -> tuple:
    """The scale that makes the mean variance 1; then the variances, largest first, along the
    eigenvectors, which are the columns, each with its largest entry positive.
    """  # noqa: D205
    scale = _inverse(np.sqrt(max(np.trace(covariance), 0) / len(covariance)))
    variances, directions = np.linalg.eigh(covariance * scale**2)
    variances, directions = variances[::-1].clip(0), directions[:, ::-1]
    largest = directions[np.abs(directions).argmax(0), np.arange(len(variances))]
    return scale, variances, directions * np.sign(largest)


def _check_enough(count: int, wanted: int) -> None:
    """Where all examples have variance 0, whitening would blow up what others have there."""
    if count <= wanted:
        raise UserError(
            f"config.preprocessing: {count} examples are too few for {wanted} principal components "
            f"(allowed: config.preprocessing.components from 1 to {count - 1}, with pca or "
            "pca_whitening)"
        )


def _peek(chunks: _Chunks) -> tuple[_Chunks, tuple[int, ...]]:
    """The shape of one example, before all are read."""
    chunks = iter(chunks)
    first = next(chunks)
    return itertools.chain([first], chunks), first.shape[1:]


def _statistics(shift, scale, **linear) -> Statistics:
    arrays = {"shift": shift, "scale": scale, **linear}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}
