"""Optimisers against the papers' formulas in float64, schedules against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import optimizers
from research.config import default_config
from research.errors import UserError
from research.names import public_functions
from research.optimizers import algorithms, schedules
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


def reference(rule, steps=5, decay=0.0, clip=None):
    """rule(memory, g, t) -> (memory, direction), all in float64."""
    params = {k: v.astype(np.float64) for k, v in PARAMS["Dense_0"].items()}
    memory = {k: (0.0, 0.0) for k in params}
    for step in range(steps):
        gradients = {k: np.sin(3 * v) + 0.1 * step for k, v in params.items()}
        if clip:
            norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
            gradients = {k: g * min(1, clip / norm) for k, g in gradients.items()}
        for k, g in gradients.items():
            memory[k], direction = rule(memory[k], g, step + 1)
            if k == "kernel":
                direction = direction + decay * params[k]
            params[k] = params[k] - 0.1 * direction
    return params


def adam(memory, g, t):
    m, v = 0.9 * memory[0] + 0.1 * g, 0.999 * memory[1] + 0.001 * g**2
    return (m, v), (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)


def momentum(memory, g, t):
    m = 0.9 * memory[0] + g
    return (m, 0), m


def nesterov(memory, g, t):
    m = 0.9 * memory[0] + g
    return (m, 0), g + 0.9 * m


RULES = {"sgd": lambda memory, g, t: (memory, g), "momentum": momentum, "nesterov": nesterov,
         "adam": adam}  # fmt: skip


@pytest.mark.parametrize("name", public_functions(algorithms))
@pytest.mark.parametrize(("decay", "clip"), [(0.0, None), (0.3, None), (0.0, 0.5)])
def test_every_algorithm_is_its_paper(name, decay, clip):
    config, traced = numbers(
        **{
            "optimizer.name": name,
            "optimizer.learning_rate": 0.1,
            "optimizer.weight_decay": decay,
            "optimizer.clip_norm": clip or 0.0,
        }
    )
    got, want = run(config, traced), reference(RULES[name], decay=decay, clip=clip)
    for key in want:
        np.testing.assert_allclose(got[key], want[key], rtol=2e-5, atol=1e-6)


def test_switching_a_number_on_keeps_the_structure_of_the_state():
    """A run may be resumed with weight decay or clipping switched on."""
    trees = []
    for value in (0.0, 0.1):
        config, traced = numbers(**{"optimizer.weight_decay": value, "optimizer.clip_norm": value})
        trees.append(jax.tree.structure(optimizers.build(config, traced, 0).init(PARAMS)))
    assert trees[0] == trees[1]


@pytest.mark.parametrize("name", public_functions(schedules))
def test_every_schedule_starts_at_the_rate_and_stays_within_it(name):
    config, traced = numbers(**{"schedule.name": name})
    rates = [float(optimizers.learning_rate(config, traced, step)) for step in range(101)]
    assert rates[0] == pytest.approx(1e-3)
    assert max(rates) <= 1e-3 * (1 + 1e-6) and min(rates) >= 0


def test_schedules_closed_forms():
    rate = {}
    for name in public_functions(schedules):
        config, traced = numbers(
            **{
                "schedule.name": name,
                "schedule.warmup": "10 steps",
                "schedule.final": 0.1,
                "schedule.factor": 0.5,
                "schedule.milestones": ("30 percent", "60 steps"),
                "optimizer.learning_rate": 1.0,
            }
        )
        run = jax.jit(lambda step, c=config, t=traced: optimizers.learning_rate(c, t, step))
        rate[name] = lambda step, run=run: float(run(step))
    for function in rate.values():  # the first update uses a tenth, the tenth all of it
        assert function(0) == pytest.approx(0.1)
        assert function(4) == pytest.approx(0.5)
    at = 10 + 30  # a third of the 90 steps that warm-up leaves
    assert rate["constant"](at) == 1
    assert rate["linear"](at) == pytest.approx(1 - 0.9 / 3)
    assert rate["cosine"](at) == pytest.approx(0.1 + 0.9 * (1 + np.cos(np.pi / 3)) / 2)
    assert [rate["linear"](100), rate["cosine"](100)] == pytest.approx([0.1, 0.1])
    assert [rate["piecewise"](s) for s in (29, 30, 59, 60, 99)] == [1, 0.5, 0.5, 0.25, 0.25]


@pytest.mark.parametrize("key", ["optimizer.name", "schedule.name"])
def test_unknown_names(key):
    config, traced = numbers(**{key: "cosin"})
    with pytest.raises(UserError, match=f"config.{key} = 'cosin' is unknown"):
        optimizers.build(config, traced, 0)
