"""Normalise by batch statistics (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167)."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from research import batch_axis
from research.errors import UserError
from research.models.fusion import apart


class BatchNorm(nn.Module):
    """Normalise each channel by the statistics of the batch, or in evaluation by running ones.

    Params `scale` and `bias` (C,); collection `batch_stats` with `mean` and `var` (C,), float32.
    The running variance is the biased one, as in flax (PyTorch keeps the unbiased).

    Attributes:
      decay: weight of the *old* running statistics at each step; may be traced.
      ghost_batch_size: number of examples in a part of the batch that is normalised alone (Hoffer
        et al., 2017); 0: the whole batch. The running statistics are those of the whole batch. If
        devices share a batch by hand (`research.batch_axis`), the parts lie within a device.
      epsilon: added to the variance.
      frozen: whether training also normalises by the running statistics, and keeps them; or a
        function from the module's path to this, which may be a traced bool.
    """

    decay: float | jax.Array
    ghost_batch_size: int = 0
    epsilon: float = 1e-5
    frozen: bool | Callable[[str], bool | jax.Array] = False
    scale_init: Callable = nn.initializers.ones
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x, train: bool):
        """Map (..., C) to (..., C), in the dtype of x."""
        channels = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels, jnp.float32)
        var = self.variable("batch_stats", "var", jnp.ones, channels, jnp.float32)
        scale = self.param("scale", self.scale_init, channels, jnp.float32)
        bias = self.param("bias", self.bias_init, channels, jnp.float32)
        frozen = self.frozen("/".join(self.path)) if callable(self.frozen) else self.frozen

        def by_running():
            factor = scale * lax.rsqrt(var.value + self.epsilon)
            return _affine(x, factor, bias - mean.value * factor)

        if not train or frozen is True:
            return by_running()
        y, batch_mean, batch_var = self._normalize(x, scale, bias)
        new_mean = self.decay * mean.value + (1 - self.decay) * batch_mean
        new_var = self.decay * var.value + (1 - self.decay) * batch_var
        if frozen is not False:  # it may be frozen until some step
            y = jnp.where(frozen, by_running(), y)
            new_mean = jnp.where(frozen, mean.value, new_mean)
            new_var = jnp.where(frozen, var.value, new_var)
        if not self.is_initializing():
            mean.value, var.value = new_mean, new_var
        return y

    def _normalize(self, x, scale, bias):
        size = self.ghost_batch_size
        if not size:
            return batch_norm(x, scale, bias, self.epsilon, batch_axis.name())
        if x.shape[0] % size:
            shared = math.gcd(size, x.shape[0])  # one example has no variance
            raise UserError(
                f"config.model.ghost_batch_size = {size} does not divide the batch of "
                f"{x.shape[0]} (allowed: divisors of at least 2, such as "
                f"{shared if shared > 1 else x.shape[0]})"
            )
        ghosts = x.reshape(-1, size, *x.shape[1:])
        normalize = partial(batch_norm, scale=scale, bias=bias, epsilon=self.epsilon)
        y, means, variances = jax.vmap(normalize)(ghosts)
        # The variance of the whole batch: within the parts, and between them.
        moments = batch_axis.pooled(means.mean(0), variances.mean(0) + means.var(0))
        return y.reshape(x.shape), *moments


@partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def batch_norm(x, scale, bias, epsilon=1e-5, axis_name=None):
    """Normalise by the statistics of x itself, or of the x of all devices along an axis.

    Args:
      x: (..., C), floating.
      scale: (C,), float32.
      bias: (C,), float32.
      epsilon: added to the variance.
      axis_name: None, or `batch_axis.DATA` if devices share a batch by hand.

    Returns:
      y = scale (x - mean) / sqrt(var + epsilon) + bias, (..., C) in the dtype of x, and float32
      mean and biased var (C,).
    """
    return _batch_norm_fwd(x, scale, bias, epsilon, axis_name)[0]


def _batch_norm_fwd(x, scale, bias, epsilon, axis_name):
    mean, var = _moments(x)
    if axis_name:
        mean, var = batch_axis.pooled(mean, var)
    factor = scale * lax.rsqrt(var + epsilon)
    y = _affine(x, factor, bias - mean * factor)
    return (y, mean, var), (x, scale, mean, var)


def _batch_norm_bwd(epsilon, axis_name, residuals, cotangents):
    gradients = partial(_gradients, epsilon, axis_name)
    if residuals[0].ndim == 2:
        return gradients(*residuals, *cotangents)
    # dy is read three times: `apart` computes the gradients of the layers behind only once.
    return apart(gradients, *residuals, *cotangents)


def _gradients(epsilon, axis_name, x, scale, mean, var, dy, dmean, dvar):
    count = x.size // x.shape[-1]
    rstd = lax.rsqrt(var + epsilon)
    dbias = _channel_sum(lambda dy: dy, dy)
    dscale = _channel_sum(lambda dy, x, mean: dy * (x - mean), dy, x, mean) * rstd
    # Each device has copies of scale and bias, with its own gradients; the statistics are those of
    # all devices.
    sums = (dscale, dbias, dmean, dvar)
    if axis_name:
        sums, count = batch_axis.total(sums), count * batch_axis.parts()
    all_dscale, all_dbias, dmean, dvar = sums
    # dx = scale rstd (dy - mean(dy) - normalised mean(dy normalised)), as a dy + b (x - mean) + c;
    # the last terms are the gradients of the statistics themselves.
    a = scale * rstd
    b = (2 * dvar - a * rstd * all_dscale) / count
    c = (dmean - a * all_dbias) / count
    dx = a * dy.astype(jnp.float32) + b * x.astype(jnp.float32) + (c - b * mean)
    return dx.astype(x.dtype), dscale, dbias


batch_norm.defvjp(_batch_norm_fwd, _batch_norm_bwd)


def _affine(x, factor, offset):
    return (x.astype(jnp.float32) * factor + offset).astype(x.dtype)


def _moments(x):
    """Return mean and biased variance over all axes but the last, in one pass, (C,) float32."""
    count = x.size // x.shape[-1]
    shift = x.reshape(-1, x.shape[-1])[0].astype(jnp.float32)
    first = _channel_sum(lambda x, shift: x - shift, x, shift) / count
    second = _channel_sum(lambda x, shift: (x - shift) ** 2, x, shift) / count
    return first + shift, jnp.maximum(second - first**2, 0)


def _channel_sum(function, *arrays):
    """Return a function that sums `function`, elementwise, over all axes but the last, in float32.

    It maps (..., C) to (C,); arrays of one axis are per channel. On CPU, summing long rows of
    pixels x channels is 8 times faster than summing short rows of channels, so one axis of pixels
    stays for a second sum.
    """
    shape = next(array.shape for array in arrays if array.ndim > 1)
    width = shape[-2] if len(shape) > 2 else 1

    def rows(array):
        if array.ndim == 1:
            return jnp.tile(array, width)
        return array.reshape(-1, width * shape[-1]).astype(jnp.float32)

    return function(*map(rows, arrays)).sum(0).reshape(width, shape[-1]).sum(0)
