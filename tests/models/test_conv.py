"""Convolution and its hand-written gradients against XLA's and float64, wherever they are run."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from jax import lax

from research.models import initializers
from research.models.conv import Conv, conv

TOLERANCE = {"rtol": 1e-4, "atol": 1e-4}


def reference(x, kernel, stride, padding):
    if isinstance(padding, int):
        padding = ((padding, padding), (padding, padding))
    return lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def operands(batch=3, size=(7, 6), taps=(3, 3), channels=(2, 4), seed=0):
    random = np.random.default_rng(seed)
    x = jnp.asarray(random.standard_normal((batch, *size, channels[0])), jnp.float32)
    kernel = jnp.asarray(random.standard_normal((*taps, *channels)), jnp.float32)
    return x, kernel


def gradients(function, x, kernel):
    """Of a loss that weighs every output differently."""

    def loss(x, kernel):
        y = function(x, kernel)
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    return jax.value_and_grad(loss, argnums=(0, 1))(x, kernel)


def by_taps(x, kernel, stride, padding):
    """The same as `gradients` of `reference`, tap by tap in float64.

    XLA's own gradients abort for one channel and some strides (jaxlib 0.10.2, on CPUs).
    """
    x, kernel = np.asarray(x, np.float64), np.asarray(kernel, np.float64)
    pads = [(padding, padding)] * 2
    if isinstance(padding, str):
        pads = lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], (stride, stride), padding)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    height, width = (np.array(padded.shape[1:3]) - kernel.shape[:2]) // stride + 1
    seen = {
        (i, j): np.s_[:, i : i + height * stride : stride, j : j + width * stride : stride]
        for i, j in np.ndindex(kernel.shape[:2])
    }
    y = sum(padded[window] @ kernel[tap] for tap, window in seen.items())
    weights = np.cos(np.arange(y.size)).reshape(y.shape)
    of_padded, of_kernel = np.zeros_like(padded), np.zeros_like(kernel)
    for tap, window in seen.items():
        of_kernel[tap] = np.einsum("bhwi,bhwo->io", padded[window], weights)
        of_padded[window] += weights @ kernel[tap].T
    inside = [slice(low, low + n) for (low, _), n in zip(pads, x.shape[1:3], strict=True)]
    return np.sum(y * weights), (of_padded[:, inside[0], inside[1]], of_kernel)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    taps=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    padding=st.one_of(st.sampled_from(["SAME", "VALID"]), st.integers(0, 3)),
    channels=st.tuples(st.integers(1, 3), st.integers(1, 3)),
)
def test_gradients_are_those_tap_by_tap(size, taps, stride, padding, channels):
    pad = padding if isinstance(padding, int) else 0
    if padding != "SAME":
        hypothesis.assume(all(n + 2 * pad >= t for n, t in zip(size, taps, strict=True)))
    x, kernel = operands(2, size, taps, channels)
    got = gradients(lambda x, k: conv(x, k, stride=stride, padding=padding), x, kernel)
    want = by_taps(x, kernel, stride, padding)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), got, want)
    values = conv(x, kernel, stride=stride, padding=padding)
    np.testing.assert_allclose(values, reference(x, kernel, stride, padding), **TOLERANCE)


@pytest.mark.parametrize("stride", [1, 2])
def test_under_jit_loops_and_vmap(stride):
    x, kernel = operands()
    plain = gradients(lambda x, k: reference(x, k, stride, "SAME"), x, kernel)

    def ours(x, kernel):
        return gradients(lambda x, k: conv(x, k, stride=stride), x, kernel)

    looped = jax.jit(
        lambda x, k: lax.fori_loop(
            0, 2, lambda _, g: ours(x, k), jax.tree.map(jnp.zeros_like, plain)
        )
    )
    lanes = jax.vmap(ours)(jnp.stack([x, 2 * x]), jnp.stack([kernel, kernel]))
    for got in (jax.jit(ours)(x, kernel), looped(x, kernel), jax.tree.map(lambda a: a[0], lanes)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), got, plain)


def test_the_gradient_of_a_gradient():
    """Hessian-vector products, by jvp of grad."""
    x, kernel = operands()

    def curvature(function):
        loss = lambda kernel: jnp.sum(jnp.tanh(function(x, kernel)))  # noqa: E731
        return jax.jvp(jax.grad(loss), (kernel,), (jnp.ones_like(kernel),))[1]

    got = curvature(lambda x, k: conv(x, k))
    want = curvature(lambda x, k: reference(x, k, 1, "SAME"))
    np.testing.assert_allclose(got, want, **TOLERANCE)


def test_no_gradient_leaves_the_fast_layout_on_cpu():
    """In a loop body any other layout is a naive loop, some hundred times slower."""
    x, kernel = operands(4, (8, 8), (3, 3), (4, 4))
    for stride in (1, 2):
        step = jax.jit(lambda x, k, s=stride: gradients(lambda x, k: conv(x, k, stride=s), x, k))
        lowered = step.lower(x, kernel).as_text()
        calls = [line for line in lowered.splitlines() if "stablehlo.convolution" in line]
        assert len(calls) >= 3
        for line in calls:
            assert "[b, 0, 1, f]x[0, 1, i, o]->[b, 0, 1, f]" in line
            assert "reverse = [true" not in line


def test_dtype_and_empty_batch():
    x, kernel = operands()
    assert conv(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert conv(x[:0], kernel, stride=2).shape == (0, 4, 3, 4)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("channels", "groups"), [((4, 6), 2), ((6, 6), 6), ((3, 6), 3)])
def test_groups_are_convolutions_side_by_side(channels, groups, stride):
    """The last two are depthwise, with one and two outputs for each channel."""
    x, kernel = operands(channels=channels)
    kernel = kernel[:, :, : channels[0] // groups]

    def side_by_side(x, kernel):
        parts = zip(jnp.split(x, groups, -1), jnp.split(kernel, groups, -1), strict=True)
        return jnp.concatenate([conv(x, k, stride=stride) for x, k in parts], -1)

    def ours(x, kernel):
        return gradients(lambda x, k: conv(x, k, stride=stride, groups=groups), x, kernel)

    want = jax.jit(lambda x, k: gradients(side_by_side, x, k))(x, kernel)
    lanes = jax.jit(jax.vmap(ours))(jnp.stack([2 * x, x]), jnp.stack([kernel, kernel]))
    for got in (jax.jit(ours)(x, kernel), jax.tree.map(lambda a: a[1], lanes)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **TOLERANCE), got, want)


def test_the_fan_in_of_a_group_is_that_of_its_channels():
    layer = Conv(256, groups=4, kernel_init=initializers.he_normal)
    params = layer.init(jax.random.key(0), jnp.zeros((1, 4, 4, 64)))["params"]
    assert params["kernel"].shape == (3, 3, 16, 256)
    assert float(params["kernel"].var()) == pytest.approx(2 / (9 * 16), rel=0.05)
    x = jax.random.normal(jax.random.key(1), (16, 12, 12, 64))
    inside = layer.apply({"params": params}, x)[:, 1:-1, 1:-1]
    assert float(inside.var()) == pytest.approx(2, rel=0.05)
