"""The config: overrides, durations, what is refused."""

import json

import hypothesis
import pytest
from hypothesis import strategies as st

from research import config as configuration
from research.config import Duration, check_config, default_config
from research.errors import UserError


def test_defaults_pass_their_own_check():
    check_config(default_config())


def test_every_number_has_limits():
    """A new numeric key without a range would be trained with whatever the user typed."""
    ranged = {**configuration.TRACED, **configuration.LIMITS}
    for key, value in configuration.flatten(default_config()).items():
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        if numeric and key != "model.depth":  # which has a list
            assert key in ranged, key


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer.learning_rate", -1.0, "out of range (allowed: at least 0)"),
        ("optimizer.learning_rate", float("nan"), "out of range"),
        ("schedule.cycles", 1e40, "(allowed: at least 1, and finite in float32)"),
        ("model.dropout_rate", 1.0, "at least 0 and below 1"),
        ("batch_size", -1, "at least 0"),
        ("model.hidden", (64, 0), "at least 1"),
        ("on_divergence", "roll_back", "did you mean 'rollback'"),
        ("checkpoint.on_error", "ignore", "allowed: continue, stop"),
        ("max_rollbacks", -1, "at least 0"),
        ("model.residual", "zero_gama", "did you mean 'zero_gamma'"),
        ("model.hidden", (64.5,), "not a whole number"),
        ("model.hidden", ("a",), "not a whole number"),
        ("duration", "ten epochs", "is not a duration"),
        ("duration", "1.2.3 epochs", "is not a duration"),
        ("schedule.milestones", ("50 percent", "x"), "is not a duration"),
        ("duration", "1e400 steps", "is not a duration"),
        ("checkpoint.every", "0 steps", "no interval (allowed: more than 0)"),
    ],
)
def test_refused_values_are_named(key, value, message):
    config = default_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises(UserError) as error:
        check_config(config)
    assert f"config.{key} = " in str(error.value) and message in str(error.value)


def test_a_config_without_a_key_or_with_none_is_refused():
    config = default_config()
    del config.batch_size
    with pytest.raises(UserError, match="config.batch_size is missing"):
        check_config(config)
    for key in ("name", "activation"):
        config = default_config()
        config.model = {**config.model, key: None}
        with pytest.raises(UserError, match=f"config.model.{key} = None is not words"):
            check_config(config)


def test_an_unknown_key_names_the_closest():
    config = default_config()
    config.optimizer.learning_rat = 1.0
    with pytest.raises(UserError, match=r"did you mean 'optimizer.learning_rate'\?"):
        check_config(config)


def test_json_reloads_to_the_same_config():
    config = default_config()
    config.model.hidden = (3,)
    config.augmentation.names = ("flip",)
    again = configuration.from_json(configuration.to_json(config), "x")
    assert configuration.differences(config, again) == {}
    assert configuration.to_json(again) == configuration.to_json(config)


@pytest.mark.parametrize("text", ["", "[]", "nonsense", "{"])
def test_damaged_json_is_refused(text):
    with pytest.raises(UserError, match="not a configuration in JSON"):
        configuration.from_json(text, "x")


def test_json_with_a_key_or_type_of_another_version_is_refused():
    with pytest.raises(UserError, match="optimizer.lr"):
        configuration.from_json(json.dumps({"optimizer": {"lr": 1}}), "x")
    with pytest.raises(UserError, match="batch_size"):
        configuration.from_json(json.dumps({"batch_size": "many"}), "x")


def test_durations():
    sizes = {"batch_size": 100, "examples": 1050, "total_steps": 400}
    for text, steps in {
        "7": 7,
        "7 steps": 7,
        "2 epochs": 21,
        "1 epoch": 10.5,
        "500 examples": 5,
        "5 percent": 20,
        "5%": 20,
        "1e3 steps": 1000,
    }.items():
        assert Duration.parse(text, "x").steps(**sizes) == pytest.approx(steps), text


@hypothesis.given(st.integers(1, 10**7))
def test_what_follows_the_data_suits_their_number(examples):
    """The rule of the docs: a batch of about an eighth, 40 epochs and at least 1,500 steps."""
    config = configuration.resolved(default_config(), examples)
    size, epochs = config.batch_size, float(config.duration.removesuffix(" epochs"))
    assert configuration.automatic_keys(config) == []
    assert size == examples if examples < 16 else size in (16, 32, 64, 128)
    assert size in (16, 128) or examples < 16 or examples / 16 < size <= examples / 8
    steps = epochs * examples / size
    assert epochs >= 40 and steps >= 1500
    assert epochs == 40 or steps < 1500 + examples / size  # no epoch more than that takes
    configuration.check_config(config)


def test_what_is_given_stays_as_it_is():
    config = default_config()
    config.batch_size, config.duration = 7, "3 epochs"
    assert configuration.resolved(config, 100) is config
    assert configuration.resolved(default_config(), 100, full_batch=True).batch_size == 100
    other = configuration.as_in(config, default_config())
    assert (other.batch_size, other.duration) == (7, "3 epochs")


@hypothesis.given(st.text())
def test_a_duration_is_read_or_refused(text):
    try:
        assert Duration.parse(text, "x").amount >= 0
    except UserError as error:
        assert "config.x" in str(error)
