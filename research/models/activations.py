"""Activation functions by name: float array -> array of the same shape and dtype, elementwise."""

import jax
import jax.numpy as jnp


def relu(x):
    """max(x, 0); the gradient at 0 is 0 (Nair and Hinton, 2010)."""
    return jax.nn.relu(x)


def leaky_relu(x):
    """x where positive, else 0.01 x (Maas et al., 2013)."""
    return jax.nn.leaky_relu(x, 0.01)


def elu(x):
    """x where positive, else exp(x) - 1 (Clevert et al., 2016)."""
    return jax.nn.elu(x)


def gelu(x):
    """x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""
    return jax.nn.gelu(x, approximate=False)


def silu(x):
    """x * sigmoid(x) (Elfwing et al., 2017)."""
    return jax.nn.silu(x)


def sigmoid(x):
    """1 / (1 + exp(-x))."""
    return jax.nn.sigmoid(x)


def tanh(x):
    """The hyperbolic tangent."""
    return jnp.tanh(x)


def identity(x):
    """x: a network of affine maps only."""
    return x
