"""Draw initial weights, by name: (key, shape, dtype, *, numbers...) -> kernel.

Kernels are (in, out) for dense and (height, width, in, out) for convolutions. fan_in is the product
of all axes but the last, fan_out is height * width * out. All kernels are multiplied by
`model.initializer_scale`, and with `model.activation_gain` by the gain of the activation.
"""

import math

import jax
import jax.numpy as jnp

_init = jax.nn.initializers
_scaled = _init.variance_scaling


def zeros(key, shape, dtype=jnp.float32):
    """Return zeros: every unit of a layer stays like the others."""
    return jnp.zeros(shape, dtype)


def constant(key, shape, dtype=jnp.float32):
    """Return ones, so that all weights equal the scale: as symmetric as `zeros`."""
    return jnp.ones(shape, dtype)


def normal(key, shape, dtype=jnp.float32):
    """Draw from the standard normal distribution; its deviation is then the scale."""
    return jax.random.normal(key, shape, dtype)


def small_normal(key, shape, dtype=jnp.float32):
    """Draw from a normal distribution of standard deviation 0.01, whatever the fan."""
    return _init.normal(0.01)(key, shape, dtype)


def uniform(key, shape, dtype=jnp.float32):
    """Draw uniformly between -1 and 1, so between minus and plus the scale."""
    return jax.random.uniform(key, shape, dtype, -1, 1)


def xavier_normal(key, shape, dtype=jnp.float32):
    """Draw normally, with variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010, eq. 12)."""
    return _scaled(1.0, "fan_avg", "normal")(key, shape, dtype)


def xavier_uniform(key, shape, dtype=jnp.float32):
    """Draw uniformly in +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, 2010, eq. 16)."""
    return _scaled(1.0, "fan_avg", "uniform")(key, shape, dtype)


def he_normal(key, shape, dtype=jnp.float32):
    """Draw normally, with variance 2 / fan_in (He et al., 2015, eq. 10)."""
    return _scaled(2.0, "fan_in", "normal")(key, shape, dtype)


def he_uniform(key, shape, dtype=jnp.float32):
    """Draw uniformly in +-sqrt(6 / fan_in): variance 2 / fan_in."""
    return _scaled(2.0, "fan_in", "uniform")(key, shape, dtype)


def lecun_normal(key, shape, dtype=jnp.float32):
    """Draw normally, with variance 1 / fan_in (LeCun et al., 1998, section 4.6)."""
    return _scaled(1.0, "fan_in", "normal")(key, shape, dtype)


def lecun_uniform(key, shape, dtype=jnp.float32):
    """Draw uniformly in +-sqrt(3 / fan_in): variance 1 / fan_in."""
    return _scaled(1.0, "fan_in", "uniform")(key, shape, dtype)


def lecun_truncated(key, shape, dtype=jnp.float32):
    """Draw normally, cut off at two deviations, rescaled to variance 1 / fan_in."""
    return _scaled(1.0, "fan_in", "truncated_normal")(key, shape, dtype)


def orthogonal(key, shape, dtype=jnp.float32):
    """Draw orthonormal columns of (fan_in, out), or rows if fewer (Saxe et al., 2014)."""
    return _init.orthogonal()(key, shape, dtype)


def delta_orthogonal(key, shape, dtype=jnp.float32):
    """Put `orthogonal` at the centre of a convolution, 0 elsewhere (Xiao et al., 2018, sec. 4)."""
    return _at_centre(orthogonal(key, shape[-2:], dtype), shape)


def dirac(key, shape, dtype=jnp.float32):
    """Copy input i to output i, as far as both go: a convolution that changes nothing."""
    return _at_centre(jnp.eye(*shape[-2:], dtype=dtype), shape)


def sparse(key, shape, dtype=jnp.float32, *, sparse_connections):
    """Draw `sparse_connections` standard normal weights for each output; the others are 0.

    Martens, 2010, section 5.
    """
    weights, places = jax.random.split(key)
    fan_in = math.prod(shape[:-1])
    order = jax.random.uniform(places, (fan_in, shape[-1])).argsort(0)
    kept = (order < sparse_connections).reshape(shape)  # a random permutation in each column
    return jnp.where(kept, jax.random.normal(weights, shape, dtype), 0)


def _at_centre(kernel, shape):
    if len(shape) == 2:
        return kernel
    centre = tuple((size - 1) // 2 for size in shape[:-2])  # aligned with the pixel
    return jnp.zeros(shape, kernel.dtype).at[centre].set(kernel)
