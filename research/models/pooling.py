"""Pooling whose gradients are fast on CPU: reshapes and reductions, no windows.

XLA:CPU runs `reduce_window` and its gradient `select_and_scatter` as naive loops. Windows that do
not overlap need neither.
"""

import jax.numpy as jnp


def max_pool(x, window: int = 2):
    """The maximum of each window of window x window pixels; rows and columns left over are cut off.

    The gradient goes to the maximum of each window; equal maxima share it equally (PyTorch gives
    all of it to the first).

    Args:
      x: images (B, H, W, C).
      window: side of the windows, and their stride.

    Returns:
      (B, H // window, W // window, C).
    """
    return _windows(x, window).max((2, 4))


def avg_pool(x, window: int = 2):
    """The mean of each window of window x window pixels; as `max_pool` otherwise."""
    return _windows(x, window).mean((2, 4))


def global_avg_pool(x):
    """The mean over all pixels: (B, H, W, C) -> (B, C)."""
    return x.mean((1, 2))


def _windows(x, window):
    batch, height, width, channels = x.shape
    rows, columns = height // window, width // window
    x = x[:, : rows * window, : columns * window]
    return jnp.reshape(x, (batch, rows, window, columns, window, channels))
