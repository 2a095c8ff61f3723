"""Names of the user's own code: what they stand for, their options, and mistakes in them."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import users_parts
from conftest import ROOT
from flax import linen as nn

from research import optimizers
from research.config import default_config, from_json, to_json
from research.errors import UserError
from research.models import activations
from research.names import bind, resolve
from research.training import advance, hyperparameters, setup

KEY = "config.model.activation"


def small(**changes):
    config = default_config()
    config.data.name, config.data.toy_examples = "spirals", 120
    config.batch_size, config.duration, config.model.hidden = 16, "4 steps", (8,)
    for key, value in changes.items():
        section, options = key.split(".")[0], key.split(".")[-1] == "options"
        if options:
            config[section].options = value
        else:
            config.update_from_flattened_dict({key: value})
    return config


def trained(config):
    run = setup.from_config(config)
    state = run.init()
    return advance.over_arrays(run, state)(state, 4)[0]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("users_parts:swish", users_parts.swish),
        ("users_parts.swish", users_parts.swish),
        ("jax.nn.gelu", nn.gelu),
        ("jax.nn:gelu", nn.gelu),
        ("relu", activations.relu),
    ],
)
def test_what_a_name_stands_for(name, expected):
    assert resolve(KEY, name, activations) is expected


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("users_part:swish", ["no module 'users_part'", "did you mean 'users_parts'?"]),
        ("users_parts:swsh", ["users_parts has no 'swsh'", "did you mean 'swish'?", "signed"]),
        ("users_parts.swsh", ["did you mean 'swish'?"]),
        ("optax.contirb.prodigy", ["optax has no 'contirb'", "did you mean 'contrib'?"]),
        ("users_parts:", ["is a module of", "allowed: a function"]),
        ("users_parts:NUMBER", ["is of type int", "allowed: a function"]),
        ("users_parts..swish", ["is no dotted name"]),
        (":swish", ["is no dotted name"]),
        ("../users_parts.swish", ["is no dotted name"]),
        ("users_parts.jnp.tanh", ["users_parts.jnp is the module jax.numpy of another package"]),
    ],
)
def test_a_dotted_name_that_stands_for_nothing_is_one_line(name, words):
    with pytest.raises(UserError) as error:
        resolve(KEY, name, activations)
    message = str(error.value)
    assert message.startswith(f"{KEY} = {name!r}") and "\n" not in message
    for word in words:
        assert word in message


def test_an_error_inside_the_users_module_is_left_as_it_is():
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module_anywhere"):
        resolve(KEY, "own_broken:swish", activations)


def test_numbers_come_from_the_section_and_options_from_the_user():
    section = {"leaky_slope": 0.5, "options": {"beta": 2.0, "width": 3}}
    x = jnp.float32(1.5)
    got = bind(users_parts.swish, section, {"leaky_slope": 0.25})(x)
    assert float(got) == pytest.approx(1.5 / (1 + np.exp(-3.0)) + 0.375)
    assert bind(users_parts.swish, {"leaky_slope": 0.5}, {}).keywords == {"leaky_slope": 0.5}
    with pytest.raises(UserError, match="swish needs leaky_slope"):
        bind(users_parts.swish, {"options": {}}, {})
    # Functions of ours take no options.
    assert bind(activations.leaky_relu, section | {"options": {"leaky_slope": 9}}, {}).keywords == {
        "leaky_slope": 0.5
    }


def test_a_flax_module_of_the_users_own():
    changes = {"model.name": "users_parts:Net", "model.options": {"width": 5, "depth": 2}}
    state = trained(small(**changes))
    shapes = {name: leaf["kernel"].shape for name, leaf in state.params.items()}
    assert shapes == {"Dense_0": (2, 5), "Dense_1": (5, 5), "head": (5, 3)}
    with pytest.raises(UserError, match="Net needs width"):
        trained(small(**{"model.name": "users_parts:Net"}))


def test_a_model_of_our_layers_and_an_activation_of_the_users_own():
    changes = {
        "model.name": "users_parts:build",
        "model.activation": "users_parts:swish",
        "model.options": {"width": 6, "beta": 2.0},
    }
    state = trained(small(**changes))
    assert state.params["Dense_0"]["kernel"].shape == (2, 6)
    again = from_json(to_json(small(**changes)), "x", trusted=True)
    assert again == small(**changes)


@pytest.mark.parametrize(
    ("section", "name", "option", "words"),
    [
        ("model", "users_parts:Net", "widht", ["did you mean 'width'?", "(allowed: depth, width)"]),
        ("model", "users_parts:Net", "outputs", ["(allowed: depth, width)"]),
        ("optimizer", "adam", "beta1", ["(allowed: none)"]),
        ("optimizer", "optax.adamw", "weight_decy", ["did you mean 'weight_decay'?", "b1"]),
        ("optimizer", "optax.sgd", "learning_rate", ["momentum"]),
    ],
)
def test_a_wrong_option_is_one_line(section, name, option, words):
    with pytest.raises(UserError) as error:
        setup.from_config(small(**{f"{section}.name": name, f"{section}.options": {option: 1}}))
    assert str(error.value).startswith(f"config.{section}.options.{option} is taken by nothing")
    for word in words:
        assert word in str(error.value)


def updates_of(config, gradients, params):
    """What the chain of a config makes of gradients, step by step."""
    numbers = hyperparameters.from_config(config, 120)
    chain = optimizers.build(config, numbers, 0)
    state, steps = chain.init(params), []
    for step, gradient in enumerate(gradients):
        rule = optimizers.build(config, numbers, step)
        updates, state = rule.update(gradient, state, params, value=jnp.float32(1.0))
        steps.append(updates)
        params = optax.apply_updates(params, updates)
    return steps


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("optax.adamw", {"b1": 0.8, "weight_decay": 0.1}, optax.adamw),
        ("optax.contrib.prodigy", {"betas": (0.8, 0.9)}, optax.contrib.prodigy),
        ("optax.sgd", {"momentum": 0.7, "nesterov": True}, optax.sgd),
    ],
)
def test_a_factory_of_optax_is_called_with_the_scheduled_rate(name, options, theirs):
    config = small(**{"optimizer.name": name, "optimizer.options": options})
    config.optimizer.learning_rate = 0.02
    random = np.random.default_rng(0)
    params = {"kernel": jnp.asarray(random.normal(size=(3, 2)), jnp.float32)}
    shape = (4, 3, 2)
    gradients = [{"kernel": g} for g in jnp.asarray(random.normal(size=shape), jnp.float32)]
    got = updates_of(config, gradients, params)
    schedule = optax.cosine_decay_schedule(0.02, 4)
    if name.endswith("prodigy"):  # which takes the schedule in another way
        config.schedule.name = "constant"
        got, schedule = updates_of(config, gradients, params), 0.02
    rule = theirs(schedule, **options)
    state = rule.init(params)
    for gradient, ours in zip(gradients, got, strict=True):
        updates, state = rule.update(gradient, state, params)
        np.testing.assert_allclose(ours["kernel"], updates["kernel"], rtol=1e-5, atol=1e-8)
        params = optax.apply_updates(params, updates)


def test_weight_decay_comes_on_top_of_a_factory():
    changes = {"optimizer.name": "optax.sgd", "optimizer.weight_decay": 0.5}
    config = small(**changes, **{"schedule.name": "constant", "optimizer.learning_rate": 0.1})
    params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2)}
    zeros = {"kernel": jnp.zeros((2, 2)), "bias": jnp.zeros(2)}
    (updates,) = updates_of(config, [zeros], params)
    np.testing.assert_allclose(updates["kernel"], -0.05)
    np.testing.assert_allclose(updates["bias"], 0.0)


@pytest.mark.parametrize("schedule", ["plateau", "users_parts:half"])
def test_factories_train_with_every_schedule(schedule):
    config = small(**{"optimizer.name": "optax.contrib.prodigy", "schedule.name": schedule})
    state = trained(config)
    assert int(state.step) == 4
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.params))


def test_a_rule_without_a_rate_takes_the_numbers_of_the_section():
    config = small(**{"optimizer.name": "users_parts:signed", "schedule.name": "constant"})
    config.optimizer.learning_rate, config.optimizer.momentum = 0.1, 0.5
    got = updates_of(config, [{"kernel": jnp.full((1, 1), 4.0)}] * 2, {"kernel": jnp.ones((1, 1))})
    np.testing.assert_allclose([u["kernel"].item() for u in got], [-0.2, -0.1 * 6**0.5], rtol=1e-6)


def test_the_current_folder_is_importable(tmp_path):
    """Also where Python does not put it on its path."""
    (tmp_path / "only_here.py").write_text("def act(x):\n    return x\n")
    code = (
        "from research.names import resolve; from research.models import activations; "
        "print(resolve('k', 'only_here:act', activations)(7))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )  # fmt: skip
    assert done.stdout.strip() == "7", done.stderr
