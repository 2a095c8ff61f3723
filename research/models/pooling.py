"""Pool images, by name: images (x, train, *, numbers...) -> smaller images.

The functions are called in `@nn.compact`. XLA:CPU runs `reduce_window` and its gradient
`select_and_scatter` as naive loops. Windows that do not overlap need neither: reshapes and
reductions are enough.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.errors import UserError


def max_pool(x, train, *, pooling_window):
    """Return the maximum of each window of window x window pixels; cut off rows and columns after.

    The gradient goes to the maximum of each window; equal maxima share it equally (PyTorch gives
    all of it to the first). (B, H, W, C) -> (B, H // window, W // window, C).
    """
    return _windows(x, pooling_window).max((2, 4))


def avg_pool(x, train, *, pooling_window):
    """Return the mean of each window of window x window pixels; otherwise as `max_pool`."""
    return _windows(x, pooling_window).mean((2, 4))


def fractional_max_pool(x, train, *, pooling_ratio):
    """Return the maxima of 2 x 2 windows at pseudo-random places (Graham, 2014, section 2).

    (B, H, W, C) -> (B, H // ratio, W // ratio, C), for a ratio between 1 and 2. The window of row
    i starts at floor((i + u) a) - floor(u a), a = (H - 2) / (rows - 1), with one u for the rows and
    one for the columns of the batch, uniform in training and 1/2 in evaluation.
    """
    return _FractionalMaxPool(pooling_ratio)(x, train)


class _FractionalMaxPool(nn.Module):
    ratio: float

    @nn.compact
    def __call__(self, x, train: bool):
        _check(x, 2)
        places = jax.random.uniform(self.make_rng("dropout"), (2,)) if train else (0.5, 0.5)
        for axis, place in zip((1, 2), places, strict=True):
            size = x.shape[axis]
            count = int(size / self.ratio)
            step = (size - 2) / max(count - 1, 1)
            starts = jnp.floor((jnp.arange(count) + place) * step) - jnp.floor(place * step)
            starts = jnp.minimum(starts.astype(jnp.int32), size - 2).at[-1].set(size - 2)
            x = jnp.maximum(jnp.take(x, starts, axis), jnp.take(x, starts + 1, axis))
        return x


def _windows(x, window):
    batch, height, width, channels = x.shape
    _check(x, window)
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return jnp.reshape(x, (batch, rows, window, columns, window, channels))


def _check(x, smallest: int) -> None:
    if min(x.shape[1:3]) < smallest:
        raise UserError(
            f"config.model.channels: images of {x.shape[1]} x {x.shape[2]} pixels are left to be "
            f"pooled by {smallest} x {smallest} (allowed: fewer stages)"
        )
