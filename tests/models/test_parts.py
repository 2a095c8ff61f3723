"""Activations, initialisers, pooling, dropout, fusion boundaries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import linen as nn

from research.models import activations, initializers
from research.models.fusion import apart
from research.models.pooling import avg_pool, global_avg_pool, max_pool
from research.models.regularization import Dropout
from research.names import public_functions

ACTIVATIONS = public_functions(activations)
INITIALIZERS = public_functions(initializers)
FORMULAS = {
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": lambda x: np.where(x > 0, x, 0.01 * x),
    "elu": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "gelu": lambda x: x * scipy.special.ndtr(x),
    "silu": lambda x: x * scipy.special.expit(x),
    "sigmoid": scipy.special.expit,
    "tanh": np.tanh,
    "identity": lambda x: x,
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas(name):
    x = np.concatenate([np.linspace(-8, 8, 401), [0.0, -1e4, 1e4]])
    got = ACTIVATIONS[name](jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(got, FORMULAS[name](x), rtol=1e-5, atol=1e-6)
    for shape in ((0,), (2, 3)):
        result = ACTIVATIONS[name](jnp.ones(shape, jnp.bfloat16))
        assert result.shape == shape and result.dtype == jnp.bfloat16
    slope = jax.vmap(jax.grad(ACTIVATIONS[name]))(jnp.asarray([-1e4, -1.0, 0.0, 1.0, 1e4]))
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("he_normal", np.sqrt(2 / (9 * 40))),
        ("xavier_normal", np.sqrt(2 / (9 * 40 + 9 * 80))),
        ("lecun_normal", np.sqrt(1 / (9 * 40))),
        ("small_normal", 0.01),
        ("zeros", 0.0),
    ],
)
def test_initializers_have_the_deviation_of_their_paper(name, deviation):
    weights = np.asarray(INITIALIZERS[name](jax.random.key(0), (3, 3, 40, 80)), np.float64)
    assert weights.std() == pytest.approx(deviation, rel=0.02)  # 28,800 draws: 0.4 % one sigma
    assert abs(weights.mean()) <= 4 * deviation / np.sqrt(weights.size)
    assert np.abs(weights).max() >= 3.5 * deviation  # normal, not truncated


def test_every_initializer_is_tested():
    assert len(INITIALIZERS) == 5


@pytest.mark.parametrize("window", [2, 3])
def test_pooling_is_flaxs_and_so_are_its_gradients(window):
    x = jax.random.normal(jax.random.key(0), (2, 9, 7, 3))
    for ours, flax in ((max_pool, nn.max_pool), (avg_pool, nn.avg_pool)):

        def reference(x, flax=flax):
            return flax(x, (window, window), strides=(window, window))

        np.testing.assert_allclose(ours(x, window), reference(x), rtol=1e-6)
        got, want = (
            jax.grad(lambda x, f=f: jnp.sum(jnp.sin(f(x))))(x)
            for f in (lambda x, ours=ours: ours(x, window), reference)
        )
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(global_avg_pool(x), x.mean((1, 2)))


def test_dropout_keeps_the_mean_and_zeroes_the_share():
    x = jnp.ones((200, 500))
    y = Dropout(0.3).apply({}, x, train=True, rngs={"dropout": jax.random.key(0)})
    y = np.asarray(y)
    assert set(np.unique(y.round(5))) == {0.0, np.float32(1 / 0.7).round(5)}
    assert abs((y == 0).mean() - 0.3) < 4 * np.sqrt(0.21 / x.size)
    assert np.array_equal(Dropout(0.3).apply({}, x, train=False), x)


def test_dropout_takes_traced_rates_lane_by_lane():
    x, rates = jnp.ones((50, 50)), jnp.array([0.0, 0.2, 0.9])

    def run(rate):
        return Dropout(rate).apply({}, x, train=True, rngs={"dropout": jax.random.key(1)})

    lanes = jax.jit(jax.vmap(run))(rates)
    for lane, rate in zip(lanes, rates, strict=True):
        np.testing.assert_allclose(lane, run(rate), rtol=1e-6)
    assert np.array_equal(lanes[0], x)


def test_dropout_without_a_key_says_so():
    with pytest.raises(Exception, match="dropout"):
        Dropout(0.5).apply({}, jnp.ones(3), train=True)


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
