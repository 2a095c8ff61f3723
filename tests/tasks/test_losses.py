"""Losses and their gradients against their formulas in float64."""

import functools

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import huber, log_softmax, softmax
from sklearn.metrics import mean_pinball_loss

from research.names import bind, numbers_of, public_functions
from research.tasks import losses

SHAPE = (4, 3)
NUMBERS = {"focal_gamma": 2.0, "huber_delta": 0.7, "quantile": 0.2}


def by_rows(function):
    """Lift a function of the lists of one example to a batch."""
    return lambda outputs, targets, **numbers: np.array(
        [function(*row, **numbers) for row in zip(outputs, targets, strict=True)]
    )


@by_rows
def softmax_cross_entropy(z, t):
    return -sum(t[k] * np.log(np.exp(z[k]) / np.exp(z).sum()) for k in range(len(z)))


@by_rows
def focal(z, t, focal_gamma):
    p = softmax(z)
    return -sum(t[k] * (1 - p[k]) ** focal_gamma * np.log(p[k]) for k in range(len(z)))


@by_rows
def hinge(z, t):
    rows = range(len(z))
    return sum(t[y] * max(0, 1 + z[k] - z[y]) for y in rows for k in rows if k != y)


@by_rows
def binary_cross_entropy(z, t):
    s = 1 / (1 + np.exp(-z))
    return -sum(t[k] * np.log(s[k]) + (1 - t[k]) * np.log(1 - s[k]) for k in range(len(z)))


@by_rows
def mean_squared_error(z, t):
    return sum((z[k] - t[k]) ** 2 for k in range(len(z))) / len(z)


@by_rows
def mean_absolute_error(z, t):
    return sum(abs(z[k] - t[k]) for k in range(len(z))) / len(z)


@by_rows
def huber_loss(z, t, huber_delta):
    return sum(huber(huber_delta, z[k] - t[k]) for k in range(len(z))) / len(z)


@by_rows
def quantile(z, t, quantile):
    return mean_pinball_loss(t, z, alpha=quantile)


REFERENCES = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "focal": focal,
    "hinge": hinge,
    "binary_cross_entropy": binary_cross_entropy,
    "mean_squared_error": mean_squared_error,
    "mean_absolute_error": mean_absolute_error,
    "huber": huber_loss,
    "quantile": quantile,
}


def slope(function, outputs, step=1e-5):
    """Return the gradient of a function's sum by central differences, in float64."""
    found = np.zeros_like(outputs)
    for place in np.ndindex(outputs.shape):
        change = np.zeros_like(outputs)
        change[place] = step
        found[place] = (function(outputs + change).sum() - function(outputs - change).sum()) / (
            2 * step
        )
    return found


@functools.cache
def compiled(name):
    """Return (outputs, targets, numbers) -> the losses and the gradient of their sum."""

    def both(outputs, targets, numbers):
        function = bind(public_functions(losses)[name], NUMBERS, numbers)
        gradient = jax.grad(lambda outputs: function(outputs, targets).sum())(outputs)
        return function(outputs, targets), gradient

    return jax.jit(both)


def kinks(name, outputs, targets, numbers):
    """Return the distances to the places where a loss has no gradient."""
    if name == "hinge":
        return 1 + outputs[:, None, :] - outputs[:, :, None]
    if name in ("mean_absolute_error", "quantile"):
        return outputs - targets
    if name == "huber":  # has one there, but the second derivative jumps
        return np.abs(outputs - targets) - numbers["huber_delta"]
    return np.ones(1)


FLOATS = arrays(np.float32, SHAPE, elements=st.floats(-8, 8, width=32))
SHARES = arrays(np.float32, SHAPE, elements=st.floats(0, 1, width=32))
PARTS = {
    "focal_gamma": st.floats(0, 5, width=32),
    "huber_delta": st.floats(0.125, 4, width=32),
    "quantile": st.floats(0, 1, width=32),
}


def test_every_loss_has_a_formula_here():
    assert public_functions(losses).keys() == REFERENCES.keys()


@pytest.mark.parametrize("name", REFERENCES)
@hypothesis.settings(max_examples=60)
@hypothesis.given(st.data())
def test_a_loss_and_its_gradient_are_the_formula_s(name, data):
    outputs = data.draw(FLOATS)
    if name in ("softmax_cross_entropy", "focal", "hinge"):  # for distributions
        targets = data.draw(SHARES) + np.float32(0.01)
        targets /= targets.sum(-1, keepdims=True)
        if data.draw(st.booleans()):
            targets = np.eye(SHAPE[1], dtype=np.float32)[targets.argmax(-1)]
    else:
        targets = data.draw(SHARES if name == "binary_cross_entropy" else FLOATS)
    numbers = {key: data.draw(PARTS[key]) for key in numbers_of(public_functions(losses)[name])}
    z, t = np.float64(outputs), np.float64(targets)
    hypothesis.assume(np.abs(kinks(name, z, t, numbers)).min() > 1e-3)
    found, gradient = compiled(name)(outputs, targets, numbers)
    assert found.shape == SHAPE[:1] and found.dtype == jnp.float32

    def wanted(z):
        return REFERENCES[name](z, t, **numbers)

    np.testing.assert_allclose(found, wanted(z), rtol=2e-5, atol=2e-6)
    np.testing.assert_allclose(gradient, slope(wanted, z), rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("name", REFERENCES)
def test_large_outputs_have_finite_losses_and_gradients(name):
    """Of certainty, right and wrong, where probabilities are 0 and 1 in float32."""
    outputs = np.array([[1e4, -1e4, 0], [-1e4, 1e4, 0], [90, 0, 0], [0, 90, 0]], np.float32)
    targets = np.eye(3, dtype=np.float32)[[0, 0, 0, 0]]
    for gamma in (0.0, 0.5, 1.0, 2.0):
        found = compiled(name)(outputs, targets, NUMBERS | {"focal_gamma": gamma})
        assert all(np.isfinite(array).all() for array in found)


def test_focal_without_gamma_is_the_cross_entropy():
    random = np.random.default_rng(0)
    outputs, targets = random.normal(0, 3, SHAPE), random.dirichlet(np.ones(3), 4)
    plain = compiled("softmax_cross_entropy")(outputs, targets, NUMBERS)
    for a, b in zip(compiled("focal")(outputs, targets, {"focal_gamma": 0.0}), plain, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(plain[0], -(targets * log_softmax(outputs, -1)).sum(-1), rtol=1e-5)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_the_quantile_loss_is_least_at_the_quantile(share):
    targets = np.random.default_rng(0).exponential(size=(2001, 1)).astype(np.float32)
    candidates = np.quantile(targets, [share - 0.05, share, share + 0.05])
    found = [
        float(losses.quantile(np.full_like(targets, z), targets, quantile=share).mean())
        for z in candidates
    ]
    assert found[1] < min(found[0], found[2])
