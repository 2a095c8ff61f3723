"""What happens to a kernel between the parameter and its use."""

import math

import jax
import jax.numpy as jnp


def standardized(kernel):
    """Weight standardisation (Qiao et al., 2019, eq. 6): mean 0, deviation 1 / sqrt(fan_in) for
    each output, so that outputs have the variance of inputs.

    (..., out) -> the same; fan_in is the product of all axes but the last.
    """  # noqa: D205
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - kernel.mean(axes)
    fan_in = math.prod(kernel.shape[:-1])
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axes) * fan_in + 1e-10)


def drop_connect(key, kernel, rate):
    """DropConnect (Wan et al., 2013): zeroes weights with probability `rate`, scales the others.

    One mask for the whole batch: the paper's one for each example would be a kernel for each.
    """
    return jnp.where(jax.random.bernoulli(key, 1 - rate, kernel.shape), kernel / (1 - rate), 0)
