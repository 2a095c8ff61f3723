"""Pooling and fusion boundaries."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.models.fusion import apart
from research.models.pooling import avg_pool, fractional_max_pool, max_pool


@pytest.mark.parametrize("window", [2, 3])
def test_pooling_is_flaxs_and_so_are_its_gradients(window):
    x = jax.random.normal(jax.random.key(0), (2, 9, 7, 3))
    for function, flax in ((max_pool, nn.max_pool), (avg_pool, nn.avg_pool)):
        ours = functools.partial(function, train=True, pooling_window=window)

        def reference(x, flax=flax):
            return flax(x, (window, window), strides=(window, window))

        # The greatest is one of them; a sum is rounded in its own order, also where it cancels.
        rounding = {"rtol": 0, "atol": 0} if flax is nn.max_pool else {"rtol": 1e-6, "atol": 3e-8}
        np.testing.assert_allclose(ours(x), reference(x), **rounding)
        got, want = (jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x) for f in (ours, reference))
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


class Fractional(nn.Module):
    @nn.compact
    def __call__(self, x, train):
        return fractional_max_pool(x, train, pooling_ratio=1.5)


def test_fractional_pooling_takes_maxima_of_windows_that_cover_the_image():
    image = np.arange(9.0)[:, None] * 100 + np.arange(12.0)  # grows in both directions
    x = jnp.asarray(image, jnp.float32)[None, :, :, None]
    seen = set()
    for seed in range(30):
        y = Fractional().apply({}, x, True, rngs={"dropout": jax.random.key(seed)})[0, :, :, 0]
        assert y.shape == (6, 8)
        rows, columns = np.unique(y // 100), np.unique(y % 100)  # where the windows end
        assert len(rows) == 6 and len(columns) == 8 and rows[-1] == 8 and columns[-1] == 11
        assert set(np.diff(rows)) <= {1, 2} and set(np.diff(columns)) <= {1, 2}
        seen.add(tuple(rows))
    assert len(seen) > 2
    calm = [Fractional().apply({}, x, False) for _ in range(2)]
    np.testing.assert_array_equal(*calm)


def test_apart_is_the_plain_call():
    function = lambda x, y: {"sum": x + y, "row": x[0]}  # noqa: E731
    x, y = jnp.arange(6.0).reshape(3, 2), jnp.ones((3, 2))
    want = function(x, y)
    lanes = jax.vmap(lambda x: apart(function, x, y))(jnp.stack([x, x + 1]))
    looped = jax.lax.fori_loop(
        0, 1, lambda _, carry: apart(function, x, y), jax.tree.map(jnp.zeros_like, want)
    )
    for got in (jax.jit(lambda x, y: apart(function, x, y))(x, y), looped,
                jax.tree.map(lambda a: a[0], lanes)):  # fmt: skip
        jax.tree.map(np.testing.assert_array_equal, got, want)


def test_apart_survives_compilation_on_cpu():
    if jax.default_backend() != "cpu":
        pytest.skip("a boundary on CPU only")
    text = jax.jit(lambda x: apart(lambda x: x.T + 1, x * 2)).lower(jnp.ones((4, 4))).compile()
    assert "conditional" in text.as_text()
