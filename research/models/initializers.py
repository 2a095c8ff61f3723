"""Weight initialisers by name: (key, shape, dtype) -> kernel; the last axis is the output.

Kernels are (in, out) for dense and (height, width, in, out) for convolutions; fan_in is the product
of all axes but the last.
"""

import jax
import jax.numpy as jnp

_init = jax.nn.initializers


def he_normal(key, shape, dtype=jnp.float32):
    """Normal, variance 2 / fan_in (He et al., 2015, eq. 10)."""
    return _init.variance_scaling(2.0, "fan_in", "normal")(key, shape, dtype)


def xavier_normal(key, shape, dtype=jnp.float32):
    """Normal, variance 2 / (fan_in + fan_out) (Glorot and Bengio, 2010)."""
    return _init.variance_scaling(1.0, "fan_avg", "normal")(key, shape, dtype)


def lecun_normal(key, shape, dtype=jnp.float32):
    """Normal, variance 1 / fan_in (LeCun et al., 1998, section 4.6)."""
    return _init.variance_scaling(1.0, "fan_in", "normal")(key, shape, dtype)


def small_normal(key, shape, dtype=jnp.float32):
    """Normal, standard deviation 0.01, whatever the fan."""
    return _init.normal(0.01)(key, shape, dtype)


def zeros(key, shape, dtype=jnp.float32):
    """All zeros: every unit of a layer stays like the others."""
    return jnp.zeros(shape, dtype)
