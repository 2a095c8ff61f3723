"""Noise: means, shares, what is dropped together, traced rates."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.models import regularization
from research.models.noise import drop_path
from research.names import public_functions

NAMES = list(public_functions(regularization))


class Alone(nn.Module):
    name_: str
    rate: object

    @nn.compact
    def __call__(self, x, train):
        if self.name_ == "drop_path":
            return drop_path(x, train, self.rate)
        return getattr(regularization, self.name_)(x, train, dropout_rate=self.rate)


def run(name, rate, x, train=True, seed=0):
    return Alone(name, rate).apply({}, x, train, rngs={"dropout": jax.random.key(seed)})


@pytest.mark.parametrize("name", [*NAMES, "drop_path"])
def test_nothing_happens_in_evaluation_or_at_rate_0(name):
    x = jax.random.normal(jax.random.key(0), (4, 3, 3, 8))
    np.testing.assert_array_equal(run(name, 0.5, x, train=False), x)
    np.testing.assert_allclose(run(name, 0.0, x), x, rtol=1e-6)
    assert not np.array_equal(run(name, 0.5, x), x)
    assert not np.array_equal(run(name, 0.5, x), run(name, 0.5, x, seed=1))
    assert run(name, 0.5, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.parametrize("name", [*NAMES, "drop_path"])
def test_rates_are_traced_lane_by_lane(name):
    x, rates = jax.random.normal(jax.random.key(0), (20, 2, 2, 5)), jnp.array([0.0, 0.2, 0.9])
    lanes = jax.jit(jax.vmap(lambda rate: run(name, rate, x)))(rates)
    for lane, rate in zip(lanes, rates, strict=True):
        np.testing.assert_allclose(lane, run(name, rate, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "together"),
    # which numbers of (B, H, W, C) live and die together, as axes
    [("dropout", ()), ("spatial_dropout", (1, 2)), ("drop_path", (1, 2, 3))],
)
def test_shares_and_means(name, together):
    x = np.ones((400, 5, 6, 40), np.float32)
    y = np.asarray(run(name, 0.3, x))
    assert set(np.unique(y)) == {0.0, np.float32(1 / 0.7)}
    first = y[tuple(slice(0, 1) if axis in together else slice(None) for axis in range(4))]
    np.testing.assert_array_equal(y, np.broadcast_to(first, y.shape))
    dropped = (first == 0).mean()
    assert abs(dropped - 0.3) < 4 * np.sqrt(0.21 / first.size)


def test_alpha_dropout_keeps_mean_and_variance():
    """For what selu gives on normal inputs: mean 0, variance 1."""
    x = jax.nn.selu(jax.random.normal(jax.random.key(1), (1000, 1000)))
    y = np.asarray(run("alpha_dropout", 0.1, x), np.float64)
    assert abs(y.mean()) < 0.01 and y.std() == pytest.approx(1, abs=0.01)
    a = ((0.9) * (1 + 0.1 * 1.7580993408473766**2)) ** -0.5
    limit = a * -1.7580993408473766 * (1 - 0.1)
    share = np.isclose(y, limit, atol=1e-5).mean()
    assert share == pytest.approx(0.1, abs=0.002)


def test_dropout_without_a_key_says_so():
    with pytest.raises(Exception, match="dropout"):
        Alone("dropout", 0.5).apply({}, jnp.ones((2, 3)), True)
