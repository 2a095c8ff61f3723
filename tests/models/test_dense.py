"""Dense layers against plain products, in every direction of differentiation."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from hypothesis import strategies as st

from research.models.dense import Dense, matmul


def operands(batch, inputs, outputs):
    random = np.random.default_rng(0)
    shapes = ((batch, inputs), (inputs, outputs), (batch, outputs))
    return [jnp.asarray(random.standard_normal(shape), jnp.float32) for shape in shapes]


def gradients(product, x, kernel, weights):
    loss = lambda x, kernel: jnp.sum(jnp.sin(product(x, kernel)) * weights)  # noqa: E731
    return jax.value_and_grad(loss, argnums=(0, 1))(x, kernel)


def close(got, want):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), got, want)


@hypothesis.settings(deadline=None, max_examples=25)
@hypothesis.given(st.integers(0, 40), st.integers(1, 70), st.integers(1, 70))
def test_values_and_gradients(batch, inputs, outputs):
    arrays = operands(batch, inputs, outputs)
    close(gradients(matmul, *arrays), gradients(jnp.matmul, *arrays))


def test_in_loops_and_lanes():
    for outputs in (10, 64):
        x, kernel, weights = operands(16, 48, outputs)
        want = gradients(jnp.matmul, x, kernel, weights)
        zeros = jax.tree.map(jnp.zeros_like, want)
        looped = jax.lax.fori_loop(
            0, 2, lambda _, carry, a=(x, kernel, weights): gradients(matmul, *a), zeros
        )
        lanes = jax.vmap(lambda x, w=weights, k=kernel: gradients(matmul, x, k, w))(
            jnp.stack([x, -x])
        )
        close(looped, want)
        close(jax.tree.map(lambda a: a[0], lanes), want)


def test_hessian_vector_products():
    x, kernel, weights = operands(8, 12, 5)

    def product(matmul):
        loss = lambda kernel: jnp.sum(jnp.tanh(matmul(x, kernel)) * weights)  # noqa: E731
        return jax.jvp(jax.grad(loss), (kernel,), (kernel,))[1]

    close(product(matmul), product(jnp.matmul))


def test_the_layer_is_flaxs():
    x = jax.random.normal(jax.random.key(0), (2, 3, 7))
    for use_bias in (True, False):
        ours, flax = Dense(5, use_bias), nn.Dense(5, use_bias)
        variables = ours.init(jax.random.key(1), x)
        jax.tree.map(np.testing.assert_array_equal, variables, flax.init(jax.random.key(1), x))
        close(ours.apply(variables, x), flax.apply(variables, x))
    wide = variables["params"]["kernel"].dtype
    assert wide == jnp.float32
    assert ours.apply(variables, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    assert ours.apply(variables, x[:0]).shape == (0, 3, 5)
