"""Apply an activation function, by name: (x, *, numbers...) -> array of the same dtype.

All are elementwise, except `maxout` and `crelu`, which change the last axis. They are called inside
`@nn.compact`, because some make parameters.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn


def identity(x):
    """Return x: the network is a composition of affine maps."""
    return x


def sigmoid(x):
    """Return 1 / (1 + exp(-x)); it saturates on both sides and is never negative."""
    return jax.nn.sigmoid(x)


def tanh(x):
    """Return (exp(x) - exp(-x)) / (exp(x) + exp(-x)); it saturates on both sides, centred."""
    return jnp.tanh(x)


def relu(x):
    """Return max(x, 0); the gradient at 0 is 0 (Nair and Hinton, 2010)."""
    return jax.nn.relu(x)


def relu6(x):
    """Return min(max(x, 0), 6) (Krizhevsky, 2010); the gradient at 0 and at 6 is 0."""
    return jax.nn.relu6(x)


def squared_relu(x):
    """Return max(x, 0)^2 (So et al., Primer, 2021)."""
    return jnp.square(jax.nn.relu(x))


def crelu(x):
    """Return max(x, 0) and max(-x, 0) side by side: (..., C) -> (..., 2 C) (Shang et al., 2016).

    The gradient at 0 is 0 in both.
    """
    return jax.nn.relu(jnp.concatenate([x, -x], axis=-1))


def leaky_relu(x, *, leaky_slope):
    """Return x if it is positive, else leaky_slope * x (Maas et al., 2013).

    The slope at 0 itself is 1; in the paper it is leaky_slope, 0.99 less.
    """
    return jax.nn.leaky_relu(x, jnp.asarray(leaky_slope, x.dtype))


def prelu(x, *, prelu_slope):
    """Return x if it is positive, else a * x, a learned for each channel (He et al., 2015, eq. 1).

    The slope at 0 itself is 1; in the paper it is a, 0.75 less at the start.
    """
    return _PReLU((x.shape[-1],), prelu_slope)(x)


def prelu_shared(x, *, prelu_slope):
    """Apply `prelu` with one slope for the whole layer ("channel-shared")."""
    return _PReLU((), prelu_slope)(x)


def elu(x, *, elu_alpha):
    """Return x if it is positive, else elu_alpha * (exp(x) - 1) (Clevert et al., 2016).

    The slope at 0 is elu_alpha, as in the paper.
    """
    return jax.nn.elu(x, jnp.asarray(elu_alpha, x.dtype))


def selu(x):
    """Return 1.0507 * elu(x, 1.6733): keeps mean 0 and variance 1 (Klambauer et al., 2017, eq. 2).

    It is made for `lecun_normal` weights, no normaliser and `alpha_dropout`. The slope at 0 is
    1.758, as in the paper.
    """
    return jax.nn.selu(x)


def maxout(x, *, maxout_pieces):
    """Return the largest of each unit's affine pieces (Goodfellow et al., 2013, eq. 1).

    (..., C) -> (..., C / maxout_pieces): piece j of unit i is at j * units + i. The layer before
    has maxout_pieces times as many features, so that the number of units is that of the config.
    Equal pieces share the gradient.
    """
    return x.reshape(*x.shape[:-1], maxout_pieces, x.shape[-1] // maxout_pieces).max(-2)


def gelu(x):
    """Return x * Phi(x), Phi the normal distribution function (Hendrycks and Gimpel, 2016)."""
    return jax.nn.gelu(x, approximate=False)


def gelu_tanh(x):
    """Return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) (ibid., section 2).

    It is close to `gelu`.
    """
    return jax.nn.gelu(x, approximate=True)


def silu(x):
    """Return x * sigmoid(x), or Swish (Elfwing et al., 2017; Ramachandran et al., 2017)."""
    return jax.nn.silu(x)


def mish(x):
    """Return x * tanh(softplus(x)) (Misra, 2019)."""
    return jax.nn.mish(x)


def softplus(x):
    """Return log(1 + exp(x)), a smooth ReLU (Dugas et al., 2001)."""
    return jax.nn.softplus(x)


def hard_sigmoid(x):
    """Return min(max(x + 3, 0), 6) / 6: sigmoid in three straight pieces (Howard et al., 2019).

    The slope at -3 and at 3 is 0; the slope of the piece between is 1/6.
    """
    return jax.nn.hard_sigmoid(x)


def hard_tanh(x):
    """Return min(max(x, -1), 1) (Collobert, 2004); the slope at -1 and 1 is 1, as in the paper."""
    return jax.nn.hard_tanh(x)


def hard_swish(x):
    """Return x * min(max(x + 3, 0), 6) / 6 (Howard et al., MobileNetV3, 2019).

    The slope at -3 is 0, that of the left side (-0.5 on the right). At 3 it is 1, that of the right
    side (1.5 on the left).
    """
    return jax.nn.hard_silu(x)


class _PReLU(nn.Module):
    shape: tuple[int, ...]
    initial: float | jax.Array

    @nn.compact
    def __call__(self, x):
        slope = self.param("slope", lambda key: jnp.full(self.shape, self.initial, jnp.float32))
        return jnp.where(x >= 0, x, slope.astype(x.dtype) * x)
