"""Fit preprocessing to the training examples; the device applies it.

Each public function fits one scheme in one pass: chunks of inputs (n, ...) -> float32 arrays. These
are 'shift' and 'scale', which broadcast against one example, and for whitening a 'matrix' or
'filters'. The network's input is (x - shift) * scale, times the matrix or convolved with the
filters (`feed.preprocess`). The train state holds the statistics, so a checkpoint always has the
statistics that its weights were trained with.

Inputs may be stored as differences to an `offset` (data/offsets.py). It is float64, with the shape
of one example or of its last axis; 0 means no offset. An offset does not change the network's
input as a function of the user's inputs.

`identity` returns no statistics: {} means that inputs are passed on unchanged.

A feature is constant, and is only centred, if its standard deviation is within the rounding error
of its sums (data/moments.py). A scale is a normal float32 number, because devices flush numbers
below 2^-126 to 0.
"""

import itertools
from collections.abc import Iterable

import numpy as np

from research.data import mirrored
from research.data.checks import grey_hint
from research.data.moments import CHANNEL, EPSILON, EXAMPLE, TOGETHER, moments, products
from research.errors import UserError

Statistics = dict[str, np.ndarray]
_Chunks = Iterable[np.ndarray]

_LEAST_SCALE = 2.0**-126
_MOST_FEATURES = 64 * 64 * 3  # limit for eigenvectors: a covariance matrix of 1.2 GB


def none(chunks: _Chunks, offset=0.0) -> Statistics:
    """Divide bytes by 255; keep floats as they are."""
    first = next(iter(chunks))
    return _statistics(0.0 - offset, 1 / 255 if first.dtype == np.uint8 else 1.0)


def identity(chunks: _Chunks, offset=0.0) -> Statistics:
    """Leave inputs as they are, in their own dtype: numbers of tokens stay whole.

    Bytes are refused, because layers take no bytes, and so are differences to an offset.
    """
    first = next(iter(chunks))
    if first.dtype == np.uint8 or np.any(offset):
        what = "lie far from 0, and float32 keeps differences" if np.any(offset) else "are bytes"
        raise UserError(
            f"config.preprocessing.name = 'identity' leaves inputs as they are, and these {what} "
            "(allowed here: none, which brings bytes from 0 to 1, or a scheme that standardises)"
        )
    return {}


def min_max(chunks: _Chunks, offset=0.0) -> Statistics:
    """Scale the range of all inputs to [-1, 1]."""
    chunks, apart = _comparable(chunks, offset, TOGETHER)
    lows, highs = zip(*((float(chunk.min()), float(chunk.max())) for chunk in chunks), strict=True)
    low, high = min(lows), max(highs)
    varies = high - low > 2 * EPSILON * max(abs(low), abs(high))
    return _statistics((low + high) / 2 - apart, _inverse((high - low) / 2 if varies else 0.0))


def global_standard(chunks: _Chunks, offset=0.0) -> Statistics:
    """Standardise all numbers together to mean 0 and standard deviation 1."""
    return _standard(chunks, TOGETHER, offset)


def per_channel(chunks: _Chunks, offset=0.0) -> Statistics:
    """Standardise each channel (the last axis) to mean 0 and standard deviation 1."""
    return _standard(chunks, CHANNEL, offset)


def mean_image(chunks: _Chunks, offset=0.0) -> Statistics:
    """Subtract the mean image; divide by one standard deviation over all pixels of the difference.

    `per_pixel` divides each pixel by its own standard deviation. This amplifies pixels that are
    almost constant, such as the borders of MNIST.
    """
    _, mean, variance = moments(chunks, EXAMPLE)
    return _statistics(mean, _inverse(np.sqrt(variance.mean())))


def per_pixel(chunks: _Chunks, offset=0.0) -> Statistics:
    """Standardise each feature to mean 0 and deviation 1; only centre constant features."""
    return _standard(chunks, EXAMPLE, offset)


def pca(chunks: _Chunks, offset=0.0, *, components: int) -> Statistics:
    """Apply `mean_image`, then project on the principal components, largest variance first.

    x -> U^T x, where U holds the first eigenvectors of the covariance (Hotelling, 1933). The
    outputs are uncorrelated vectors.
    """
    mean, scale, _, directions = _principal(chunks, components)
    return _statistics(mean, scale, matrix=directions)


def pca_whitening(chunks: _Chunks, offset=0.0, *, components: int, epsilon: float) -> Statistics:
    """Apply `pca`, then divide each component by sqrt(its variance + epsilon).

    The outputs are vectors. Variances are taken after `mean_image`, where their mean over pixels
    is 1, so that epsilon means the same for all data. The variance of an output is
    variance / (variance + epsilon), almost 1.
    """
    mean, scale, variances, directions = _principal(chunks, components)
    return _statistics(mean, scale, matrix=directions / np.sqrt(variances + epsilon))


def zca(chunks: _Chunks, offset=0.0, *, epsilon: float) -> Statistics:
    """Apply `pca_whitening`, then rotate back to pixels (Bell and Sejnowski, 1997).

    x -> U (variances + epsilon)^(-1/2) U^T x. Of all whitening maps this one changes the inputs
    least. The fit takes about a minute for CIFAR-10's 3,072 features on two busy cores, half of it
    for the eigenvectors. The time for eigenvectors grows with the cube of the number of features.
    """
    mean, scale, variances, directions = _principal(chunks)
    matrix = (directions / np.sqrt(variances + epsilon)) @ directions.T
    return _statistics(mean, scale, matrix=matrix.reshape(-1, *mean.shape))


def patch_whitening(chunks: _Chunks, offset=0.0, *, patch_size: int, epsilon: float) -> Statistics:
    """Replace each pixel by the centre of its ZCA-whitened patch, as a convolution.

    Coates, Lee and Ng (2011) whiten patches; here the output keeps the shape of the image. Mirrored
    copies continue images past their borders. At each pixel the channels have covariance 1, less
    epsilon's share, and neighbouring pixels are almost uncorrelated.
    """
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
    """Undo differences between offsets inside one pooled feature, to make its values comparable.

    Returns:
      The chunks, and the array added to each example, float64; 0.0 if nothing was added.
    """
    offset = np.asarray(offset, np.float64)[None]
    apart = (offset - offset.reshape(-1, *offset.shape[features])[0])[0]
    if not apart.any():
        return chunks, 0.0
    return (chunk + apart for chunk in chunks), apart


def _inverse(deviation):
    """Return 1 / deviation, within float32's normal numbers; 1 if the deviation is 0."""
    return 1 / np.where(deviation > 0, deviation, 1.0).clip(_LEAST_SCALE, 1 / _LEAST_SCALE)


def _principal(chunks: _Chunks, components: int = 0) -> tuple:
    """Return the mean, scale, and variances (K,) and eigenvectors (D, K) of the covariance.

    `components` = 0 keeps all.
    """
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
    """Return the scale that makes the mean variance 1, the variances, and the eigenvectors.

    Variances are scaled, the largest first. Eigenvectors are columns; the largest entry of each is
    positive.
    """
    scale = _inverse(np.sqrt(max(np.trace(covariance), 0) / len(covariance)))
    variances, directions = np.linalg.eigh(covariance * scale**2)
    variances, directions = variances[::-1].clip(0), directions[:, ::-1]
    largest = directions[np.abs(directions).argmax(0), np.arange(len(variances))]
    return scale, variances, directions * np.sign(largest)


def _check_enough(count: int, wanted: int) -> None:
    """Refuse data with no more examples than components.

    Whitening would amplify directions in which train has no variance.
    """
    if count <= wanted:
        raise UserError(
            f"config.preprocessing: {count} examples are too few for {wanted} principal components "
            f"(allowed: config.preprocessing.components from 1 to {count - 1}, with pca or "
            "pca_whitening)"
        )


def _peek(chunks: _Chunks) -> tuple[_Chunks, tuple[int, ...]]:
    """Return the chunks and the shape of one example, reading only the first chunk."""
    chunks = iter(chunks)
    first = next(chunks)
    return itertools.chain([first], chunks), first.shape[1:]


def _statistics(shift, scale, **linear) -> Statistics:
    arrays = {"shift": shift, "scale": scale, **linear}
    return {name: np.asarray(array, np.float32) for name, array in arrays.items()}
