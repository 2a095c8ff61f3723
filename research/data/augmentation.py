"""Augmentation on the device: pure functions (key, images) -> images of the same shape and dtype.

Each is one random change per image; a config names them in order: `augmentation = ('flip',
'crop')`. They work on the raw images, before preprocessing, so uint8 stays uint8.
"""

import jax
import jax.numpy as jnp

_CROP_PADDING = 4  # pixels, as for CIFAR in He et al. (2015), section 4.2


def flip(key: jax.Array, images: jax.Array) -> jax.Array:
    """Mirrors each image (B, H, W, C) left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1, :], images)


def crop(key: jax.Array, images: jax.Array) -> jax.Array:
    """Moves each image (B, H, W, C) by up to 4 pixels each way; reflection fills the border."""
    batch, height, width, _ = images.shape
    pad = min(_CROP_PADDING, height - 1, width - 1)
    offsets = jax.random.randint(key, (2, batch, 1), 0, 2 * pad + 1)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    rows = offsets[0] + jnp.arange(height)  # (B, H)
    columns = offsets[1] + jnp.arange(width)
    return padded[jnp.arange(batch)[:, None, None], rows[:, :, None], columns[:, None, :]]
