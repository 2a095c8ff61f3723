"""Augment images on the device: (key, images, *, numbers...) -> images, same shape and dtype.

Each function makes one random change per image; a config names them in order:
`augmentation.names = ('flip', 'crop')`. They change the raw images (B, H, W, C) before
preprocessing, so uint8 stays uint8. Functions compute in float32, round bytes, and clip to the
range of the values. That range is 0 to 255 for uint8, else the range of each channel in the
training split.

A function may declare these keywords: `seed` of the run; `indices` of the examples in the training
split and the `epochs` in which they are seen, both int (B,); and `value_range`. The training step
supplies them.
"""

import jax
import jax.numpy as jnp

from research.data.shuffle import coins

# Keywords that are no keys of the config: the training step supplies them.
OF_THE_BATCH = ("seed", "indices", "epochs", "value_range")
_UNIT = (0.0, 1.0)


def flip(key, images):
    """Mirror each image left to right with probability 1/2."""
    mirrored = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
    return jnp.where(mirrored, images[:, :, ::-1, :], images)


def alternating_flip(key, images, *, seed, indices, epochs):
    """Mirror a random half of the images in the first epoch, then each image in every other epoch.

    In two successive epochs a network sees each image both ways. With `flip` it sees half of them
    the same way twice (Jordan, 2024, section 3.6).
    """
    mirrored = (coins(seed, indices) + epochs) % 2 == 1
    return jnp.where(mirrored[:, None, None, None], images[:, :, ::-1, :], images)


def crop(key, images, *, crop_padding):
    """Shift each image by up to `crop_padding` pixels each way; fill the border by reflection.

    CIFAR uses 4 pixels (He et al., 2015, section 4.2).
    """
    batch, height, width, _ = images.shape
    pad = min(crop_padding, height - 1, width - 1)
    offsets = jax.random.randint(key, (2, batch, 1), 0, 2 * pad + 1)
    padded = jnp.pad(images, ((0, 0), (pad, pad), (pad, pad), (0, 0)), mode="reflect")
    rows = offsets[0] + jnp.arange(height)  # (B, H)
    columns = offsets[1] + jnp.arange(width)
    # Index image by image, so that a batch that devices share is never gathered.
    return jax.vmap(lambda image, r, c: image[r[:, None], c])(padded, rows, columns)


def cutout(key, images, *, cutout_size):
    """Grey out a square of side `cutout_size` around a random pixel, clipped at the border.

    Grey is the mean of each channel over the batch (DeVries and Taylor, 2017, section 3.2).
    """
    batch, height, width, _ = images.shape
    centres = jax.random.uniform(key, (2, batch, 1)) * jnp.array([height, width])[:, None, None]
    centres = jnp.floor(centres)
    low = jnp.floor(cutout_size / 2)

    def inside(centre, size):  # (B, size)
        offset = jnp.arange(size) - centre + low
        return (offset >= 0) & (offset < cutout_size)

    hidden = inside(centres[0], height)[:, :, None] & inside(centres[1], width)[:, None, :]
    grey = jnp.mean(images, axis=(0, 1, 2), dtype=jnp.float32)
    return jnp.where(hidden[..., None], _like(images, grey, None), images)


def noise(key, images, *, noise, value_range):
    """Add normal noise; its standard deviation is a share of the range of the values."""
    low, high = _UNIT if value_range is None else value_range
    draws = jax.random.normal(key, images.shape)
    return _like(images, images + noise * (high - low) * draws, value_range)


def color_jitter(key, images, *, brightness, contrast, saturation, value_range):
    """Multiply brightness, contrast and saturation, each by a number from 1 - s to 1 + s.

    Brightness scales the differences to the minimum, then contrast the differences to the mean grey
    of the image. Last, saturation scales the differences to the grey image, the mean of the
    channels (Howard, 2013, section 2). Channels of different ranges are first scaled to the widest
    range.
    """
    amounts = jax.random.uniform(key, (3, images.shape[0], 1, 1, 1), minval=-1, maxval=1)
    bright, strong, colorful = (
        1 + amount * size
        for amount, size in zip(amounts, (brightness, contrast, saturation), strict=True)
    )
    low, high = _UNIT if value_range is None else value_range
    width = jnp.asarray(high - low)
    width = jnp.where(width > 0, width / width.max(), 1.0)
    x = (images.astype(jnp.float32) - low) / width * bright
    mean = x.mean((1, 2, 3), keepdims=True)
    x = mean + strong * (x - mean)
    grey = x.mean(3, keepdims=True)
    x = grey + colorful * (x - grey)
    return _like(images, low + x * width, value_range)


def _like(images, x, value_range):
    """Convert x to the dtype of the images: round bytes, and clip to a range if one is given."""
    if images.dtype == jnp.uint8:
        x = jnp.round(x)
    if value_range is not None:
        x = jnp.clip(x, *value_range)
    return x.astype(images.dtype)
