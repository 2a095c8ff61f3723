"""Compute the spectrum and convolutions of images that mirrored copies continue at the borders.

The mirrored image has period 2 H, 2 W, and the cosine transform (DCT-II) is its Fourier transform.
So the covariance of two pixels depends only on their distance. A convolution with symmetric filters
is a product in that basis, and has an exact inverse.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax


def spectrum(chunks: Iterable[np.ndarray]) -> tuple[int, np.ndarray, np.ndarray]:
    """Return the number of images, the mean of each channel, and the covariances of the spectrum.

    The function makes one pass in float64, with the memory of one chunk.

    Returns:
      The count, the mean (C,), and the covariances E[X_c X_d], (H, W, C, C), at each pair of
      frequencies. X is the orthonormal cosine transform of the images minus the mean.
    """
    from scipy import fft

    count, first, second, origin = 0, 0.0, 0.0, None
    for chunk in chunks:
        if origin is None:
            origin = chunk[0, 0, 0].astype(np.float64)
        waves = fft.dctn(chunk - origin, axes=(1, 2), norm="ortho")
        count += len(chunk)
        first = first + waves[:, 0, 0].sum(0)
        waves = waves.transpose(1, 2, 3, 0)  # (H, W, C, n)
        second += waves @ waves.swapaxes(2, 3)
    first, second = first / count, second / count
    second[0, 0] -= np.outer(first, first)
    return count, origin + first / np.sqrt(np.prod(second.shape[:2])), second


def covariance(spectrum: np.ndarray, size: int) -> np.ndarray:
    """Return the covariance of all size x size patches of the mirrored images.

    Its shape is (size * size * C,) * 2; pixels of a patch are in row-major order.
    """
    height, width, channels, _ = spectrum.shape
    rows, columns = _cosines(height, size), _cosines(width, size)
    # The covariance of a cosine with itself, k pixels away, is a cosine of k again.
    by_distance = np.einsum("ui,vj,uvcd->ijcd", rows, columns, spectrum) / (height * width)
    apart = np.abs(np.arange(size)[:, None] - np.arange(size))
    pairs = by_distance[apart[:, None, :, None], apart[None, :, None, :]]
    return pairs.transpose(0, 1, 4, 2, 3, 5).reshape((size * size * channels,) * 2)


def convolve(filters, images) -> jax.Array:
    """Convolve images (B, H, W, C) with filters (k, k, C, C), k odd: same shape, float32."""
    margin = filters.shape[0] // 2
    images = jnp.pad(images, ((0, 0), (margin, margin), (margin, margin), (0, 0)), "symmetric")
    return lax.conv_general_dilated(
        images,
        filters,
        window_strides=(1, 1),
        padding="VALID",
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        precision=lax.Precision.HIGHEST,
    )


def deconvolve(filters: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Invert `convolve` in float64, for filters that are symmetric in both directions."""
    from scipy import fft

    size = len(filters) // 2
    _, height, width, _ = images.shape
    # Keep one quadrant of the filters: the centre once, all else doubled along each axis.
    half = filters[size:, size:] * np.where(np.arange(size + 1), 2, 1)[:, None, None]
    half = half * np.where(np.arange(size + 1), 2, 1)[:, None, None, None]
    rows, columns = _cosines(height, size + 1), _cosines(width, size + 1)
    gains = np.einsum("ui,vj,ijcd->uvdc", rows, columns, half)  # output = gains @ input
    waves = fft.dctn(images.astype(np.float64), axes=(1, 2), norm="ortho")
    waves = np.linalg.solve(gains, waves.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    return fft.idctn(waves, axes=(1, 2), norm="ortho")


def _cosines(frequencies: int, distances: int) -> np.ndarray:
    """Return cos(pi u k / frequencies), float64 (frequencies, distances)."""
    return np.cos(np.pi / frequencies * np.outer(np.arange(frequencies), np.arange(distances)))
