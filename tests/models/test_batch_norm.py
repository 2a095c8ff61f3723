"""Batch norm against flax's own and against closed forms, statistics included."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research.models.batch_norm import BatchNorm, batch_norm

SHAPES = [(16, 5), (4, 3, 2, 5), (8, 7, 5), (1, 6, 4, 5)]


def inputs(shape, seed=0):
    random = np.random.default_rng(seed)
    return jnp.asarray(random.standard_normal(shape) * 3 + 10, jnp.float32)


def float64_reference(x, scale, bias, epsilon=1e-5):
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    return scale * (x - mean) / jnp.sqrt(var + epsilon) + bias, mean, var


@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_against_float64(shape):
    x, random = inputs(shape), np.random.default_rng(1)
    scale, bias = (jnp.asarray(random.standard_normal(5), jnp.float32) for _ in range(2))
    weights = jnp.asarray(random.standard_normal(shape), jnp.float32)

    def loss(function):
        def value(x, scale, bias):
            y, mean, var = function(x, scale, bias)
            # The statistics are differentiated as well.
            return jnp.sum(y * weights.astype(y.dtype)) + jnp.sum(mean * 2) + jnp.sum(var**2)

        return jax.value_and_grad(value, argnums=(0, 1, 2))

    got = loss(batch_norm)(x, scale, bias)
    with jax.enable_x64(True):
        wide = [jnp.asarray(np.asarray(a), jnp.float64) for a in (x, scale, bias)]
        want = loss(float64_reference)(*wide)
        want = jax.tree.map(np.asarray, want)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), got, want)


def test_variance_of_a_large_common_offset():
    x = inputs((512, 4, 4, 2)) / 3 + 10_000
    var = batch_norm(x, jnp.ones(2), jnp.zeros(2))[2]
    want = np.asarray(x, np.float64).var((0, 1, 2))
    np.testing.assert_allclose(var, want, rtol=1e-3)


@pytest.mark.parametrize("shape", SHAPES[:2])
def test_the_module_is_flaxs(shape):
    ours = BatchNorm(decay=0.8)
    flax = nn.BatchNorm(momentum=0.8, epsilon=1e-5)
    x = inputs(shape)
    variables = ours.init(jax.random.key(0), x, train=True)
    reference = flax.init(jax.random.key(0), x, use_running_average=False)
    jax.tree.map(np.testing.assert_array_equal, variables, reference)
    for _ in range(3):
        y, updated = ours.apply(variables, x, train=True, mutable=["batch_stats"])
        z, wanted = flax.apply(reference, x, use_running_average=False, mutable=["batch_stats"])
        np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-4)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4), updated, wanted)
        variables, reference = {**variables, **updated}, {**reference, **wanted}
        x = x * 1.5 - 2
    y = ours.apply(variables, x, train=False)
    z = flax.apply(reference, x, use_running_average=True)
    np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-4)


def test_lanes_of_a_vmap_are_alone():
    x = jnp.stack([inputs((4, 3, 2, 5), seed) for seed in range(3)])

    def gradient(x):
        return jax.grad(lambda x: jnp.sum(batch_norm(x, jnp.ones(5), jnp.ones(5))[0] ** 3))(x)

    lanes = jax.jit(jax.vmap(gradient))(x)
    for lane, single in zip(lanes, x, strict=True):
        np.testing.assert_allclose(lane, gradient(single), rtol=1e-4, atol=1e-4)


def test_dtype_of_the_input_stays_and_statistics_are_float32():
    y, mean, var = batch_norm(inputs((8, 5)).astype(jnp.bfloat16), jnp.ones(5), jnp.zeros(5))
    assert (y.dtype, mean.dtype, var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
