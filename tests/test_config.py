"""The config: overrides, durations, what is refused."""

import json
import math

import hypothesis
import pytest
from hypothesis import strategies as st

from research import config as configuration
from research.config import KEYS, Duration, check_config, default_config, usage
from research.config.key import LARGEST_FLOAT32
from research.errors import UserError


def test_defaults_pass_their_own_check():
    check_config(default_config())


def test_every_number_has_limits():
    """A new numeric key without a range would be trained with whatever the user typed."""
    for key, declared in KEYS.items():
        value = declared.default
        numeric = isinstance(value, (int, float)) and not isinstance(value, bool)
        assert declared.range or not numeric, key


@pytest.mark.parametrize("key", KEYS)
def test_a_declaration_is_consistent(key):
    declared = KEYS[key]
    kinds = ("range", "duration", "pairs", "form", "options")
    words = bool(declared.choices or declared.choices_in)
    assert sum(bool(getattr(declared, kind)) for kind in kinds) + words <= 1
    assert declared.meaning.endswith(".") and declared.meaning[0].isupper()
    assert declared.duration or not declared.interval
    assert not (declared.traced and declared.resumable)
    # What is traced is a number, or a duration that becomes a number of steps.
    assert declared.range or declared.duration or not declared.traced
    if not declared.options:
        declared.check(key, declared.default)
    for name in configuration.RENAMED:
        assert name not in KEYS and configuration.RENAMED[name] in KEYS


@hypothesis.given(st.sampled_from([key for key in KEYS if KEYS[key].range]), st.floats())
def test_a_number_is_accepted_exactly_in_its_range(key, number):
    declared = KEYS[key]
    low, high = declared.range
    several = isinstance(declared.default, tuple)
    whole = isinstance(declared.default[0] if several else declared.default, int)
    if whole and math.isfinite(number):
        number = round(number)
    inside = low <= number < high and abs(number) <= LARGEST_FLOAT32
    try:
        declared.check(key, (number,) if several else number)
        assert inside and (not whole or isinstance(number, int))
    except UserError:
        assert not inside or (whole and not isinstance(number, int))


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


EVERY = configuration.flatten(default_config())


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"optimizer.momentum": 0.5}, "optimizer.name = 'adam' (used by: momentum, nesterov"),
        ({"model.stochastic_depth_rate": 0.1}, "model.name = 'mlp' (used by: resnet, transformer)"),
        ({"model.pooling_window": 3}, "model.name = 'mlp' (used by: cnn)"),
        ({"schedule.milestones": ("1 steps",)}, "schedule.name = 'cosine' (used by: piecewise)"),
        ({"schedule.patience": 1.0}, "schedule.name = 'cosine' (used by: plateau)"),
        ({"augmentation.noise": 0.1}, "augmentation.names = () (used by: noise)"),
        ({"model.norm_groups": 4}, "model.normalization = 'batch_norm' (used by: group_norm)"),
        ({"averaging.decay": 0.5}, "averaging.name = 'none' (used by: ema)"),
        (
            {"model.name": "users_parts:Net", "model.activation": "elu"},
            "(used by: cnn, mlp, resnet, transformer)",
        ),
        ({"optimizer.name": "optax.sgd", "optimizer.momentum": 0.5}, "(used by: momentum"),
    ],
)
def test_a_key_without_effect_is_named_with_the_choices_that_use_it(changes, line):
    (warning,) = usage.warnings(EVERY | changes)
    key = list(changes)[-1]
    assert warning.startswith(f"config.{key} = {changes[key]!r} has no effect") and line in warning


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimizer.weight_decay": 0.1},
        {"optimizer.name": "nesterov", "optimizer.momentum": 0.5},
        {"schedule.name": "plateau", "schedule.patience": 1.0},
        {"schedule.warmup": "3 steps"},
        {"model.initial_bias": 0.1},
        {"model.name": "cnn", "model.pooling": "avg_pool", "model.pooling_window": 3},
        {"augmentation.names": ("flip", "noise"), "augmentation.noise": 0.1},
        {"model.activation": "users_parts:swish", "model.leaky_slope": 0.3},
        {"model.name": "users_parts:build", "model.hidden": (3,)},  # it takes our layers: who knows
    ],
)
def test_a_key_with_an_effect_is_not(changes):
    assert usage.warnings(EVERY | changes) == []


def test_numbers_of_a_search_count_through_the_method_of_its_rounds():
    searched = {key: declared.default for key, declared in configuration.SEARCH.items()}
    searched |= {"search.beta": 2.0, "search.acquisition": "upper_confidence_bound"}
    assert len(usage.warnings(searched)) == 2
    searched |= {"search.method": "coarse_to_fine", "search.round_method": "bayes"}
    assert usage.warnings(searched) == []


@hypothesis.given(st.data())
def test_every_number_is_used_by_the_choices_that_a_warning_names(data):
    key = data.draw(st.sampled_from(sorted(usage.idle(EVERY))))
    choice, users = usage.idle(EVERY)[key]
    name = data.draw(st.sampled_from(users))
    chosen = EVERY | {choice: (name,) if choice == "augmentation.names" else name}
    still = usage.idle(chosen).get(key)
    assert still is None or still[0] != choice  # another choice may stand between


def test_an_earlier_name_of_a_key_answers_with_its_present_name():
    line = "'ensemble.lanes' is called 'ensemble.lane_mode' now"
    config = default_config()
    config.ensemble.lanes = "vmap"
    with pytest.raises(UserError, match=line):
        check_config(config)
    # A run folder keeps its meaning.
    text = json.dumps({"ensemble": {"lanes": "vmap"}})
    assert configuration.from_json(text, "x").ensemble.lane_mode == "vmap"


def test_options_are_a_section():
    config = default_config()
    config.model.options.width = 3
    check_config(config)
    assert configuration.from_json(configuration.to_json(config), "x") == config
    config.model.options.inner = {"a": 1}
    with pytest.raises(UserError, match=r"config.model.options.inner.a: options hold no sections"):
        check_config(config)
    config = default_config()
    config.optimizer = {**config.optimizer, "options": 3}
    with pytest.raises(UserError, match=r"config.optimizer.options = 3 is no section"):
        check_config(config)
