"""Multiply by dense layers, with gradients that use the fast matrix products of XLA on CPU.

For a small batch, two products of `jax.grad` are slow there. dy kernel^T reads its second factor
against its layout (up to 2 times as slow as with a transposed copy of the kernel). x^T dy is slow
for a narrow dy, as in a classifier's head (8 times as slow as (dy^T x)^T). So both are written the
fast way, and barriers keep the compiler from folding the transposes back in.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

_NARROW = 32  # up to so many outputs, x^T dy is computed as (dy^T x)^T


class Dense(nn.Module):
    """Apply an affine map to the last axis: `kernel` (inputs, features), `bias` (features,)."""

    features: int
    use_bias: bool = True
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros
    transform: Callable | None = None  # (module, kernel) -> the kernel to use

    @nn.compact
    def __call__(self, x):
        """Map (..., inputs) to (..., features), in the dtype of x."""
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        if self.transform:
            kernel = self.transform(self, kernel)
        rows = x.reshape(x.size // x.shape[-1], x.shape[-1])
        y = matmul(rows, kernel.astype(x.dtype)).reshape(*x.shape[:-1], self.features)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            y = y + bias.astype(y.dtype)
        return y


@jax.custom_vjp
def matmul(x, kernel):
    """Return x (B, K) @ kernel (K, N), (B, N).

    As for `conv`, reverse mode and forward over reverse work; forward mode alone raises TypeError.
    """
    return x @ kernel


def _matmul_fwd(x, kernel):
    return x @ kernel, (x, kernel)


def _matmul_bwd(residuals, dy):
    x, kernel = residuals

    def turned(x, kernel, dy):
        barrier = lax.optimization_barrier
        dx = dy @ barrier(kernel.T)
        dkernel = barrier(dy.T @ x).T if dy.shape[1] <= _NARROW else x.T @ dy
        return dx, dkernel

    def plain(x, kernel, dy):
        return dy @ kernel.T, x.T @ dy

    return lax.platform_dependent(x, kernel, dy, cpu=turned, default=plain)


matmul.defvjp(_matmul_fwd, _matmul_bwd)
