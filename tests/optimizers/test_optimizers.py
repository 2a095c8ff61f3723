"""The chain: what does not depend on the algorithm; schedules against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import optimizers
from research.config import default_config
from research.errors import UserError
from research.names import public_functions
from research.optimizers import schedules
from research.training import hyperparameters

PARAMS = {"Dense_0": {"kernel": np.array([[1.0, -2.0], [0.5, 3.0]]), "bias": np.array([0.1, -1])}}


def numbers(**changes):
    config = default_config()
    config.schedule.name = "constant"
    config.duration = "100 steps"
    config.update_from_flattened_dict(changes)
    return config, hyperparameters.from_config(config, 1000)


def run(config, numbers, steps=5):
    """Gradients that differ from step to step: the params themselves, shifted."""
    params = jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), PARAMS)
    state = optimizers.build(config, numbers, 0).init(params)
    for step in range(steps):
        gradients = jax.tree.map(lambda p, step=step: jnp.sin(3 * p) + 0.1 * step, params)
        updates, state = optimizers.build(config, numbers, step).update(gradients, state, params)
        params = optax.apply_updates(params, updates)
    return params["Dense_0"]


def test_switching_a_number_on_keeps_the_structure_of_the_state():
    """A run may be resumed with weight decay or clipping switched on."""
    trees = []
    for value in (0.0, 0.1):
        config, traced = numbers(**{"optimizer.weight_decay": value, "optimizer.clip_norm": value})
        trees.append(jax.tree.structure(optimizers.build(config, traced, 0).init(PARAMS)))
    assert trees[0] == trees[1]


# Each schedule in float64, (progress, step) -> factor, for the numbers below.
CLOSED = {
    "constant": lambda p, s: 1.0,
    "linear": lambda p, s: 1 - 0.9 * p,
    "polynomial": lambda p, s: 0.1 + 0.9 * (1 - p) ** 3,
    "exponential": lambda p, s: 0.1**p,
    "inverse_time": lambda p, s: 1 / (1 + 9 * p),
    "inverse_sqrt": lambda p, s: min(1, np.sqrt(10 / (s + 1))),
    "cosine": lambda p, s: 0.1 + 0.9 * (1 + np.cos(np.pi * p)) / 2,
    "cosine_restarts": lambda p, s: (
        0.1 + 0.9 * (1 + np.cos(np.pi * ((p * 3) % 1))) / 2 if p < 1 else 0.1
    ),
    "piecewise": lambda p, s: 0.5 ** (int(s >= 30) + int(s >= 60)),
    "plateau": lambda p, s: 1.0,  # while the loss falls: see test_plateau.py
    "stable_decay": lambda p, s: 1.0 if p < 0.6 else 1 - 0.9 * (p - 0.6) / 0.4,
    "one_cycle": lambda p, s: (
        0.2 + 0.8 * (1 - np.cos(np.pi * p / 0.25)) / 2
        if p < 0.25
        else 0.1 + 0.9 * (1 + np.cos(np.pi * (p - 0.25) / 0.75)) / 2
    ),
}
NUMBERS = {
    "final": 0.1, "power": 3.0, "cycles": 3.0, "decay_share": 0.4, "rise_share": 0.25,
    "initial": 0.2, "factor": 0.5, "milestones": ("30 percent", "60 steps"),
}  # fmt: skip


@pytest.mark.parametrize("warmup", [0, 10])
@pytest.mark.parametrize("name", public_functions(schedules))
def test_every_schedule_is_its_closed_form_after_a_straight_warmup(name, warmup):
    if (name, warmup) == ("inverse_sqrt", 0):
        return  # it is defined by its warm-up
    config, traced = numbers(
        **{f"schedule.{key}": value for key, value in NUMBERS.items()}
        | {"schedule.name": name, "schedule.warmup": f"{warmup} steps"}
    )
    run = jax.jit(lambda step: optimizers.learning_rate(config, traced, step))
    for step in range(101):
        rise = min(1, (step + 1) / warmup) if warmup else 1  # the first uses a tenth, not nothing
        progress = np.clip((step - warmup) / (100 - warmup), 0, 1)
        if name == "cosine_restarts" and abs(progress * 3 - round(progress * 3)) < 1e-6 < progress:
            continue  # where it jumps, rounding decides for one side
        want = 1e-3 * rise * CLOSED[name](progress, step)
        assert float(run(step)) == pytest.approx(want, rel=1e-4, abs=1e-9), step


@pytest.mark.parametrize("name", public_functions(schedules))
def test_schedules_stay_finite_at_the_edges_of_their_numbers(name):
    config, traced = numbers(
        **{"schedule.name": name, "schedule.final": 0.0, "schedule.decay_share": 0.0}
        | {"schedule.rise_share": 0.0, "schedule.initial": 0.0, "schedule.warmup": "100 percent"}
    )
    rates = [float(optimizers.learning_rate(config, traced, step)) for step in (0, 50, 99, 100)]
    assert np.isfinite(rates).all() and min(rates) >= 0 and max(rates) <= 1e-3 * (1 + 1e-6)


@pytest.mark.parametrize("key", ["optimizer.name", "schedule.name"])
def test_unknown_names(key):
    config, traced = numbers(**{key: "cosin"})
    with pytest.raises(UserError, match=f"config.{key} = 'cosin' is unknown"):
        optimizers.build(config, traced, 0)
