"""What theory says of convergence on a quadratic, exactly: rates and where they end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research import optimizers
from research.config import default_config
from research.training import hyperparameters


def distances(name, curvatures, steps, learning_rate, momentum=0.0):
    """From the minimum of sum(curvature w^2) / 2, after each step."""
    config = default_config()
    config.duration = f"{steps} steps"
    config.schedule.name = "constant"
    config.optimizer.update({"name": name, "learning_rate": learning_rate, "momentum": momentum})
    numbers = hyperparameters.from_config(config, 1000)
    params = {"w": jnp.ones(len(curvatures))}

    def one(carry, step):
        params, state = carry
        gradients = {"w": jnp.asarray(curvatures, jnp.float32) * params["w"]}
        updates, state = optimizers.build(config, numbers, step).update(gradients, state, params)
        params = {"w": params["w"] + updates["w"]}
        return (params, state), jnp.linalg.norm(params["w"])

    state = optimizers.build(config, numbers, 0).init(params)
    run = jax.jit(lambda: jax.lax.scan(one, (params, state), jnp.arange(steps))[1])
    return np.asarray(run(), np.float64)


@pytest.mark.parametrize("k", [4.0, 25.0, 100.0])
def test_gradient_descent_has_the_rate_of_the_condition_number(k):
    found = distances("sgd", [1.0, (1 + k) / 2, k], 60, 2 / (1 + k))
    np.testing.assert_allclose(found[30:] / found[29:-1], (k - 1) / (k + 1), rtol=1e-3)


@pytest.mark.parametrize("k", [4.0, 25.0, 100.0])
def test_heavy_ball_has_the_rate_of_its_root(k):
    """At its best numbers the matrix of a step has double eigenvalues: |w_t| ~ (a + b t) rate^t."""
    root = np.sqrt(k)
    rate = (root - 1) / (root + 1)
    steps = int(25 / -np.log(rate))
    found = distances("momentum", [1.0, k], steps, 4 / (1 + root) ** 2, rate**2)
    # Of the tail: b rate^t each step, once a is subtracted out.
    linear = found / rate ** np.arange(1, steps + 1)
    half = linear[steps // 2]
    slope = (linear[-1] - half) / (steps - 1 - steps // 2)
    assert slope > 0 and linear[-1] < 3 * half  # grows as t, not as a power of more than 1
    measured = (found[-1] / found[steps // 2]) ** (1 / (steps - 1 - steps // 2))
    assert measured == pytest.approx(rate, rel=2 / steps)
    assert measured < (k - 1) / (k + 1)


@pytest.mark.parametrize(("share", "fate"), [(0.99, "shrinks"), (1.0, "stays"), (1.01, "grows")])
def test_gradient_descent_is_stable_below_two_over_the_largest_curvature(share, fate):
    found = distances("sgd", [8.0, 8.0], 200, share * 2 / 8)
    ratio = found[-1] / found[0]
    assert {"shrinks": ratio < 0.1, "stays": ratio == 1, "grows": ratio > 10}[fate]
