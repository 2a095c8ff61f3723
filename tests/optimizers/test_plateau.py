"""The plateau schedule, against optax's own, which knows no traced numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import optimizers
from research.config import default_config
from research.data.feed import to_device
from research.training import executors, hyperparameters, setup
from research.training.step import make_train_step

PARAMS = {"Dense_0": {"kernel": jnp.ones((2, 2))}}
WINDOW = 4


def config_of(**changes):
    config = default_config()
    config.duration = "200 steps"
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.5
    config.schedule.update({"name": "plateau", "window": f"{WINDOW} steps"} | changes)
    return config, hyperparameters.from_config(config, 1000)


def rates(config, numbers, losses):
    """What each update is scaled by, and what is told of it."""

    def one(carry, loss):
        state, step = carry
        updates, state = optimizers.build(config, numbers, step).update(
            PARAMS, state, PARAMS, value=loss
        )
        told = optimizers.learning_rate(config, numbers, step, state)
        return (state, step + 1), (-updates["Dense_0"]["kernel"][0, 0], told)

    state = optimizers.build(config, numbers, 0).init(PARAMS)
    return jax.lax.scan(one, (state, 0), jnp.asarray(losses, jnp.float32))[1]


RANDOM = np.random.default_rng(0)
NOISY = 2.0 + np.exp(-np.arange(200) / 20) + 0.02 * RANDOM.normal(size=200)


@pytest.mark.parametrize(
    ("factor", "patience", "threshold", "final"),
    [(0.5, 3, 1e-3, 0.0), (0.1, 1, 1e-2, 0.004), (0.3, 5, 0.05, 0.0)],
)
def test_cuts_fall_where_optaxs_do(factor, patience, threshold, final):
    config, numbers = config_of(
        factor=factor, patience=float(patience), threshold=threshold, final=final
    )
    used, told = jax.jit(lambda losses: rates(config, numbers, losses))(NOISY)
    theirs = optax.contrib.reduce_on_plateau(
        factor, patience, rtol=threshold, accumulation_size=WINDOW, min_scale=final
    )
    state, want = theirs.init(PARAMS), []
    update = jax.jit(theirs.update)
    for loss in NOISY:
        _, state = update(PARAMS, state, value=jnp.float32(loss))
        want.append(0.5 * float(state.scale))
    np.testing.assert_allclose(used, want, rtol=1e-5)
    np.testing.assert_array_equal(used, told)
    assert len(np.unique(np.round(want, 9))) >= 3


def test_corners_of_the_window():
    """One cut: at the step whose window is the patience-th without a fall, and not before."""
    config, numbers = config_of(factor=0.5, patience=2.0)
    used, _ = rates(config, numbers, [3.0] * WINDOW + [1.0] * 4 * WINDOW)
    # The second window falls; the third and fourth do not.
    np.testing.assert_array_equal(used[: 4 * WINDOW - 1], 0.5)
    np.testing.assert_array_equal(used[4 * WINDOW - 1 :], 0.25)
    config, numbers = config_of(factor=0.5, patience=2.0, window="0 steps")  # as one step
    used, _ = rates(config, numbers, [1.0] * 6)
    np.testing.assert_array_equal(used, [0.5, 0.5, 0.25, 0.25, 0.125, 0.125])


def test_its_numbers_are_traced_lane_by_lane():
    config, numbers = config_of()

    def lane(factor, patience, window, threshold):
        changed = {"factor": factor, "patience": patience}
        changed |= {"window": window, "threshold": threshold}
        return rates(config, numbers | {"schedule": numbers["schedule"] | changed}, NOISY)[0]

    lanes = jnp.asarray([[0.5, 2, 3, 0.001], [0.9, 3, 7, 0.01]])
    together = jax.jit(jax.vmap(lane))(*lanes.T)
    for number, values in enumerate(lanes):
        np.testing.assert_allclose(together[number], jax.jit(lane)(*values), rtol=1e-6)


def test_the_step_tells_of_the_cut_rate():
    """A rate of nothing trains nothing: the loss cannot fall."""
    config, _ = config_of(factor=0.5, patience=1.0, window="2 steps")
    config.data.name = "spirals"
    config.model.hidden = (4,)
    config.optimizer.learning_rate = 1e-30
    config.batch_size = 128
    run = setup.from_config(config)
    data = to_device(run.train.inputs, run.train.labels)
    data = jax.tree.map(lambda array: jnp.tile(array[:1], (128, *[1] * (array.ndim - 1))), data)
    program = jax.jit(executors.resident(make_train_step(config, run.task), 128))
    state, metrics = program(run.init(), data, 8)
    assert float(metrics.learning_rate) == pytest.approx(1e-30 * 0.5**3, rel=1e-5)
