"""Change a kernel between the parameter and its use."""

import math

import jax
import jax.numpy as jnp


def standardized(kernel):
    """Give each output's weights mean 0 and deviation 1 / sqrt(fan_in) (Qiao et al., 2019, eq. 6).

    So outputs have the variance of inputs. The shape (..., out) stays; fan_in is the product of all
    axes but the last.
    """
    axes = tuple(range(kernel.ndim - 1))
    centred = kernel - kernel.mean(axes)
    fan_in = math.prod(kernel.shape[:-1])
    return centred * jax.lax.rsqrt(jnp.square(centred).mean(axes) * fan_in + 1e-10)


def drop_connect(key, kernel, rate):
    """Set weights to 0 with probability `rate`, scale the others (DropConnect; Wan et al., 2013).

    The whole batch shares one mask. The paper draws one for each example, which would need a kernel
    for each.
    """
    return jnp.where(jax.random.bernoulli(key, 1 - rate, kernel.shape), kernel / (1 - rate), 0)
