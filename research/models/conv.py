"""Convolve in 2-D, with gradients that stay fast inside `lax.scan` and `lax.fori_loop` on CPU.

XLA:CPU calls its fast (Eigen) convolution for one layout only: images NHWC, kernels HWIO, results
NHWC, nothing reversed. JAX's own gradients of a convolution use other layouts. A compiler pass
rewrites those, but not inside loop bodies: there they become naive loops, some hundred times
slower. So both gradients are written here as convolutions in the fast layout.
"""

from collections.abc import Callable, Sequence
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from research.models.fusion import apart

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def conv(x, kernel, *, stride=1, padding="SAME", groups=1):
    """Cross-correlate images with a kernel (what deep learning calls a convolution).

    y[b, p, q, o] = sum_{i, j, c} x_padded[b, p * stride + i, q * stride + j, c] kernel[i, j, c, o]

    With groups, the channels c of the sum are those of the group that output channel o is in.

    Reverse-mode derivatives of any order work, and forward over reverse (Hessian-vector products by
    `jvp` of `grad`); forward mode alone (`jax.jvp`, `jax.jacfwd`) raises TypeError.

    Args:
      x: images (B, H, W, C), floating.
      kernel: (h, w, C / groups, O), of the dtype of x.
      stride: int, or (vertical, horizontal).
      padding: 'SAME' (output size ceil(size / stride)), 'VALID' (none), an int for all sides, or
        ((top, bottom), (left, right)).
      groups: number of groups of input and output channels, in order; C groups make a depthwise
        convolution.

    Returns:
      (B, P, Q, O), in the dtype of x.
    """
    stride = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], stride, padding)
    elif isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    padding = tuple((int(low), int(high)) for low, high in padding)
    return _conv(x, kernel, stride, padding, groups)


class Conv(nn.Module):
    """Convolve, with `kernel` (h, w, C / groups, features) and, if asked, `bias` (features,).

    Fan-in is h w C / groups, so initialisers see it in the kernel's own shape.
    """

    features: int
    kernel_size: Sequence[int] = (3, 3)
    strides: int | Sequence[int] = 1
    padding: str | int | Sequence[tuple[int, int]] = "SAME"
    groups: int = 1
    use_bias: bool = False
    kernel_init: Callable = nn.initializers.lecun_normal()
    bias_init: Callable = nn.initializers.zeros
    transform: Callable | None = None  # (module, kernel) -> the kernel to use

    @nn.compact
    def __call__(self, x):
        """Map (B, H, W, C) to (B, P, Q, features), in the dtype of x."""
        shape = (*self.kernel_size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, jnp.float32)
        if self.transform:
            kernel = self.transform(self, kernel)
        kernel = kernel.astype(x.dtype)
        y = conv(x, kernel, stride=self.strides, padding=self.padding, groups=self.groups)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, (self.features,), jnp.float32)
            y = y + bias.astype(y.dtype)
        return y


@partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _conv(x, kernel, stride, padding, groups):
    return _forward(x, kernel, stride, padding, groups)


def _conv_fwd(x, kernel, stride, padding, groups):
    return _forward(x, kernel, stride, padding, groups), (x, kernel)


def _conv_bwd(stride, padding, groups, residuals, dy):
    x, kernel = residuals

    def canonical(x, kernel, dy):
        dx = _input_gradient(dy, kernel, x.shape, stride, padding, groups)
        # Its transposes must not be fused with the layers before.
        gradient = partial(
            _kernel_gradient, shape=kernel.shape, stride=stride, padding=padding, groups=groups
        )
        return dx, apart(gradient, x, dy)

    def native(x, kernel, dy):
        forward = partial(_forward, stride=stride, padding=padding, groups=groups)
        return jax.vjp(forward, x, kernel)[1](dy)

    return lax.platform_dependent(x, kernel, dy, cpu=canonical, default=native)


_conv.defvjp(_conv_fwd, _conv_bwd)


def _forward(x, kernel, stride, padding, groups=1):
    return lax.conv_general_dilated(
        x, kernel, stride, padding, dimension_numbers=_LAYOUT, feature_group_count=groups
    )


def _input_gradient(dy, kernel, shape, stride, padding, groups):
    """Return dL/dx: dy, spread by the stride, convolved with the kernel turned by 180 degrees."""
    config = [(0, 0, 0)]
    for axis in (0, 1):
        size, taps, step = shape[1 + axis], kernel.shape[axis], stride[axis]
        spread = (dy.shape[1 + axis] - 1) * step + 1
        low = taps - 1 - padding[axis][0]
        config.append((low, size + taps - 1 - spread - low, step - 1))
    config.append((0, 0, 0))
    if all(step == 1 for step in stride) and min(min(c[:2]) for c in config) >= 0:
        pads = [c[:2] for c in config[1:3]]
    else:
        dy = lax.pad(dy, jnp.zeros((), dy.dtype), config)
        pads = [(0, 0), (0, 0)]
    height, width, inputs, outputs = kernel.shape
    turned = kernel[::-1, ::-1].reshape(height, width, inputs, groups, outputs // groups)
    turned = turned.swapaxes(2, 4).reshape(height, width, outputs // groups, groups * inputs)
    return _forward(dy, turned, (1, 1), pads, groups)


def _kernel_gradient(x, dy, shape, stride, padding, groups):
    """Return dL/dkernel: x convolved with dy, channels as examples and examples as channels."""
    pads = []
    for axis in (0, 1):
        size, taps, step = x.shape[1 + axis], shape[axis], stride[axis]
        low = padding[axis][0]
        used = (dy.shape[1 + axis] - 1) * step + taps
        pads.append((low, used - size - low))
    dkernel = lax.conv_general_dilated(
        x.transpose(3, 1, 2, 0),
        dy.transpose(1, 2, 0, 3),
        (1, 1),
        pads,
        rhs_dilation=stride,
        dimension_numbers=_LAYOUT,
        batch_group_count=groups,
    )
    return dkernel.transpose(1, 2, 0, 3)
