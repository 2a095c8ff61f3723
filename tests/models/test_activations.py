"""Activations against closed forms in float64: values and slopes, ordinary, extreme, at kinks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from flax import linen as nn

from research.models import activations
from research.models.gain import gain, widening
from research.names import bind, public_functions

NAMES = public_functions(activations)
NUMBERS = {"leaky_slope": 0.2, "prelu_slope": 0.3, "elu_alpha": 0.7, "maxout_pieces": 2}
RESHAPING = ("maxout", "crelu")
_SCALE, _ALPHA = 1.0507009873554805, 1.6732632423543772
_C = np.sqrt(2 / np.pi)


def expit(x):
    return scipy.special.expit(x)


def where(x, positive, negative):
    return np.where(x > 0, positive, negative)


def exp0(x):
    return np.exp(np.minimum(x, 0))


def density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def log1pexp(x):
    return np.logaddexp(0, x)


def inner(x):
    return _C * (x + 0.044715 * x**3)


# name: (value, slope); slopes at kinks are what the functions choose: 0 for the ReLUs.
FORMULAS = {
    "identity": (lambda x: x, np.ones_like),
    "sigmoid": (expit, lambda x: expit(x) * expit(-x)),
    "tanh": (np.tanh, lambda x: 4 * expit(2 * x) * expit(-2 * x)),
    "relu": (lambda x: np.maximum(x, 0), lambda x: where(x, 1, 0)),
    "relu6": (lambda x: np.clip(x, 0, 6), lambda x: where(x, x < 6, 0)),
    "squared_relu": (lambda x: np.maximum(x, 0) ** 2, lambda x: 2 * np.maximum(x, 0)),
    "leaky_relu": (lambda x: where(x, x, 0.2 * x), lambda x: np.where(x >= 0, 1, 0.2)),
    "prelu": (lambda x: where(x, x, 0.3 * x), lambda x: np.where(x >= 0, 1, 0.3)),
    "prelu_shared": (lambda x: where(x, x, 0.3 * x), lambda x: np.where(x >= 0, 1, 0.3)),
    "elu": (
        lambda x: where(x, x, 0.7 * np.expm1(np.minimum(x, 0))),
        lambda x: where(x, 1, 0.7 * exp0(x)),
    ),
    "selu": (
        lambda x: _SCALE * where(x, x, _ALPHA * np.expm1(np.minimum(x, 0))),
        lambda x: _SCALE * where(x, 1, _ALPHA * exp0(x)),
    ),
    "gelu": (
        lambda x: x * scipy.special.ndtr(x),
        lambda x: scipy.special.ndtr(x) + x * density(x),
    ),
    "gelu_tanh": (
        lambda x: x / 2 * (1 + np.tanh(inner(x))),
        lambda x: (
            (1 + np.tanh(inner(x))) / 2
            + x / 2 * 4 * expit(2 * inner(x)) * expit(-2 * inner(x)) * _C * (1 + 0.134145 * x**2)
        ),
    ),
    "silu": (lambda x: x * expit(x), lambda x: expit(x) * (1 + x * expit(-x))),
    "mish": (
        lambda x: x * np.tanh(log1pexp(x)),
        lambda x: np.tanh(log1pexp(x)) + x * (1 - np.tanh(log1pexp(x)) ** 2) * expit(x),
    ),
    "softplus": (log1pexp, expit),
    "hard_sigmoid": (
        lambda x: np.clip(x + 3, 0, 6) / 6,
        lambda x: np.where(np.abs(x) < 3, 1 / 6, 0),
    ),
    "hard_tanh": (lambda x: np.clip(x, -1, 1), lambda x: np.where(np.abs(x) < 1, 1, 0)),
    "hard_swish": (
        lambda x: x * np.clip(x + 3, 0, 6) / 6,
        lambda x: np.clip(x + 3, 0, 6) / 6 + np.where(np.abs(x) < 3, x / 6, 0),
    ),
}
ORDINARY = np.linspace(-8, 8, 402)  # without a kink among them
EXTREME = np.array([-1e4, -100.0, -30.0, 30.0, 100.0, 1e4])


class Alone(nn.Module):
    function: object

    @nn.compact
    def __call__(self, x):
        return self.function(x)


def apply(name, x, **changes):
    module = Alone(bind(NAMES[name], NUMBERS, changes))
    variables = module.init(jax.random.key(0), x)
    return module.apply(variables, x)


def slopes(name, x):
    return jax.grad(lambda x: apply(name, x).sum())(jnp.asarray(x, jnp.float32)[:, None])[:, 0]


def test_every_activation_has_its_formula():
    assert set(FORMULAS) | set(RESHAPING) == set(NAMES)


@pytest.mark.parametrize("name", FORMULAS)
def test_values_and_slopes_are_the_formulas(name):
    x = np.concatenate([ORDINARY, EXTREME]).astype(np.float32).astype(np.float64)
    value, slope = FORMULAS[name]
    got = apply(name, jnp.asarray(x, jnp.float32)[:, None])[:, 0]
    np.testing.assert_allclose(got, value(x), rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(slopes(name, x), slope(x), rtol=1e-5, atol=5e-6)


@pytest.mark.parametrize("name", FORMULAS)
def test_kinks_are_met_and_have_a_slope_of_one_side_or_between(name):
    kinks = np.array([-3.0, -1.0, 0.0, 1.0, 3.0, 6.0])
    value, slope = FORMULAS[name]
    got = np.asarray(apply(name, jnp.asarray(kinks, jnp.float32)[:, None])[:, 0])
    np.testing.assert_allclose(got, value(kinks), rtol=1e-6, atol=1e-6)
    sides = np.sort([slope(kinks - 1e-9), slope(kinks + 1e-9)], axis=0)
    found = np.asarray(slopes(name, kinks))
    assert (found >= sides[0] - 1e-5).all() and (found <= sides[1] + 1e-5).all()
    if "relu" in name and name not in ("leaky_relu", "prelu", "prelu_shared"):
        assert found[2] == 0  # a unit that is exactly off stays off


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_dtypes(name):
    for shape in ((0, 4), (3, 4), (2, 3, 3, 4)):
        for dtype in (jnp.float32, jnp.bfloat16):
            result = apply(name, jnp.ones(shape, dtype))
            assert result.dtype == dtype and result.shape[:-1] == shape[:-1]
            if name not in RESHAPING:
                assert result.shape == shape


@pytest.mark.parametrize("name", NAMES)
def test_widening_is_what_the_layer_must_give(name):
    ratio = widening(bind(NAMES[name], NUMBERS, {}), 4)
    assert apply(name, jnp.ones((1, 12))).shape[-1] == 12 / ratio
    assert float(ratio) == {"maxout": 2, "crelu": 0.5}.get(name, 1)


def test_maxout_takes_the_largest_piece():
    x = jnp.asarray([[1.0, -5.0, 3.0, 4.0, -6.0, 2.0]])
    np.testing.assert_array_equal(apply("maxout", x), [[4.0, -5.0, 3.0]])
    np.testing.assert_array_equal(apply("maxout", x, maxout_pieces=3), [[3.0, 4.0]])


def test_crelu_keeps_both_signs():
    x = np.array([[1.0, -2.0]], np.float32)
    np.testing.assert_array_equal(apply("crelu", x), [[1, 0, 0, 2]])


@pytest.mark.parametrize(("name", "shape"), [("prelu", (4,)), ("prelu_shared", ())])
def test_prelu_learns_its_slope(name, shape):
    module = Alone(bind(NAMES[name], NUMBERS, {}))
    x = jnp.asarray([[-1.0, 2.0, -3.0, 0.0]])
    variables = module.init(jax.random.key(0), x)
    (slope,) = jax.tree.leaves(variables)
    assert slope.shape == shape and (slope == np.float32(0.3)).all()
    gradient = jax.grad(lambda v: module.apply(v, x).sum())(variables)
    want = np.minimum(x[0], 0) if shape else np.minimum(x, 0).sum()  # eq. 11: x where negative
    np.testing.assert_allclose(jax.tree.leaves(gradient)[0], want)


@pytest.mark.parametrize(
    ("name", "key"),
    [("leaky_relu", "leaky_slope"), ("elu", "elu_alpha"), ("prelu", "prelu_slope")],
)
def test_numbers_are_traced_lane_by_lane(name, key):
    x, values = jnp.linspace(-2, 2, 8)[:, None], jnp.asarray([0.0, 0.5, 1.5])
    lanes = jax.jit(jax.vmap(lambda value: apply(name, x, **{key: value})))(values)
    for lane, value in zip(lanes, values, strict=True):
        np.testing.assert_allclose(lane, apply(name, x, **{key: float(value)}), rtol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_gain_keeps_the_second_moment(name):
    """Against integration in float64: E f(z)^2 by Gauss-Hermite, or a formula of pairs."""
    got = float(gain(bind(NAMES[name], NUMBERS, {}), 4))
    if name == "maxout":  # E max(a, b)^2 = 1
        want, tolerance = 1.0, 2e-2
    elif name == "crelu":  # half of the numbers are those of relu, and so are the others
        want, tolerance = np.sqrt(2), 1e-3
    else:
        z = np.linspace(-12, 12, 200_001)
        moment = np.sum(FORMULAS[name][0](z) ** 2 * density(z)) * (z[1] - z[0])
        want, tolerance = 1 / np.sqrt(moment), 3e-3
    assert got == pytest.approx(want, rel=tolerance)
