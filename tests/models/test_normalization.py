"""Normalisers against NumPy in float64, in training and evaluation; ghost batches; kernels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.errors import UserError
from research.models import normalization
from research.models.kernels import drop_connect, standardized
from research.names import bind, public_functions

NAMES = public_functions(normalization)
NUMBERS = {"batch_norm_decay": 0.9, "ghost_batch_size": 0, "norm_groups": 2, "initial_bias": 0.5,
           "freeze_batch_stats": False}  # fmt: skip
X = np.random.default_rng(0).normal(3, 2, (8, 5, 4, 6)).astype(np.float32)


class Alone(nn.Module):
    function: object
    scale_init: float = 1.0

    @nn.compact
    def __call__(self, x, train):
        return self.function(x, train, self.scale_init)


def alone(name, scale_init=1.0, **changes):
    return Alone(bind(NAMES[name], NUMBERS, changes), scale_init)


def normalized(x, axes):
    x = np.asarray(x, np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + 1e-5) + 0.5


def by_groups(x, groups):
    parts = np.asarray(x).reshape(*x.shape[:-1], groups, -1)
    axes = (*range(1, x.ndim - 1), parts.ndim - 1)
    return normalized(parts, axes).reshape(x.shape)


FORMULAS = {
    "none": lambda x: x,
    "batch_norm": lambda x: normalized(x, tuple(range(x.ndim - 1))),
    "layer_norm": lambda x: normalized(x, x.ndim - 1),
    "group_norm": lambda x: by_groups(x, 2),
    "instance_norm": lambda x: normalized(x, tuple(range(1, x.ndim - 1))),
}


@pytest.mark.parametrize("shape", ["images", "rows"])
@pytest.mark.parametrize("name", NAMES)
def test_training_is_the_formula(name, shape):
    x = X if shape == "images" else X.reshape(-1, 6)[:40]
    if (name, shape) == ("instance_norm", "rows"):
        with pytest.raises(UserError, match="works on images"):
            alone(name).init(jax.random.key(0), x, True)
        return
    module = alone(name)
    variables = module.init(jax.random.key(0), x, train=False)
    y, _ = module.apply(variables, x, train=True, mutable=["batch_stats"])
    assert y.dtype == jnp.float32
    np.testing.assert_allclose(y, FORMULAS[name](x), rtol=2e-5, atol=2e-5)
    if name not in ("batch_norm",):  # the others know no difference
        np.testing.assert_array_equal(module.apply(variables, x, train=False), y)


@pytest.mark.parametrize("name", NAMES)
def test_a_large_offset_costs_few_digits(name):
    """The variance is not a difference of large numbers."""
    x = X + np.float32(1000)
    module = alone(name)
    variables = module.init(jax.random.key(0), x, train=False)
    y, _ = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y, FORMULAS[name](x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "none"])
def test_the_scale_starts_where_asked(name):
    module = alone(name, scale_init=0.0)
    variables = module.init(jax.random.key(0), X, train=False)
    y, _ = module.apply(variables, X, train=True, mutable=["batch_stats"])
    np.testing.assert_array_equal(y, np.float32(0.5))  # nothing but the initial bias


def test_ghost_batches_are_a_split_by_hand():
    module = alone("batch_norm", ghost_batch_size=4)
    variables = module.init(jax.random.key(0), X, train=False)
    weights = np.random.default_rng(1).normal(size=X.shape).astype(np.float32)

    def ghosts(x):
        y, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
        return jnp.sum(jnp.sin(y) * weights), (y, updates)

    def by_hand(x):
        whole = alone("batch_norm")
        parts = [
            whole.apply(variables, part, train=True, mutable=["batch_stats"])[0]
            for part in (x[:4], x[4:])
        ]
        return jnp.sum(jnp.sin(jnp.concatenate(parts)) * weights), jnp.concatenate(parts)

    gradient, (y, updates) = jax.grad(ghosts, has_aux=True)(jnp.asarray(X))
    want_gradient, want = jax.grad(by_hand, has_aux=True)(jnp.asarray(X))
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient, want_gradient, rtol=1e-4, atol=1e-5)
    # The running statistics are the whole batch's: variances within the parts and between them.
    x = X.astype(np.float64)
    running = jax.tree.leaves(updates["batch_stats"])
    np.testing.assert_allclose(running[0], 0.1 * x.mean((0, 1, 2)), rtol=1e-5)
    np.testing.assert_allclose(running[1], 0.9 + 0.1 * x.var((0, 1, 2)), rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "change", "told"),
    [
        ("batch_norm", {"ghost_batch_size": 6}, "6 does not divide the batch of 8 .*such as 2"),
        ("group_norm", {"norm_groups": 4}, "4 does not divide a layer's 6 channels .*such as 2"),
    ],
)
def test_parts_that_do_not_divide(name, change, told):
    module = alone(name, **change)
    with pytest.raises(UserError, match=told):
        variables = module.init(jax.random.key(0), X, train=False)
        module.apply(variables, X, train=True, mutable=["batch_stats"])


def test_layer_norm_is_flaxs_and_one_group_is_all_numbers_of_an_example():
    module = alone("layer_norm", initial_bias=0.0)
    variables = module.init(jax.random.key(0), X, train=False)
    reference = nn.LayerNorm(epsilon=1e-5)
    want = reference.apply(reference.init(jax.random.key(0), X), X)
    np.testing.assert_allclose(module.apply(variables, X, train=True), want, rtol=1e-4, atol=1e-5)
    one_group = alone("group_norm", norm_groups=1)
    variables = one_group.init(jax.random.key(0), X, train=False)
    got = one_group.apply(variables, X, train=True)
    np.testing.assert_allclose(got, normalized(X, (1, 2, 3)), rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("shape", [(50, 7), (3, 3, 20, 8)])
def test_standardized_kernels(shape):
    kernel = np.random.default_rng(0).normal(2, 5, shape).astype(np.float32)
    got = np.asarray(standardized(jnp.asarray(kernel)), np.float64).reshape(-1, shape[-1])
    np.testing.assert_allclose(got.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(got.std(0), 1 / np.sqrt(len(got)), rtol=1e-4)
    flat = kernel.astype(np.float64).reshape(-1, shape[-1])
    want = (flat - flat.mean(0)) / flat.std(0) / np.sqrt(len(flat))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    scaled = standardized(jnp.asarray(kernel * 7 + 1))  # what the weights' own scale cannot change
    np.testing.assert_allclose(scaled.reshape(got.shape), got, rtol=1e-3, atol=1e-5)


def test_drop_connect_keeps_the_mean():
    kernel = jnp.ones((200, 300))
    got = np.asarray(drop_connect(jax.random.key(0), kernel, 0.25))
    assert set(np.unique(got)) == {0.0, np.float32(1 / 0.75)}
    assert abs((got == 0).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / got.size)
    np.testing.assert_array_equal(drop_connect(jax.random.key(0), kernel, 0.0), kernel)
