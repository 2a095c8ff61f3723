"""Spaces: scales, conditions, programs, and what is refused."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_collections import ConfigDict

from research.config import check_config, default_config
from research.errors import UserError
from research.tuning.spaces import Space, choice, integer, linear, log

MIXED = (
    log("optimizer.learning_rate", 1e-4, 1e-1),
    choice("optimizer.name", "adam", "nesterov", "sgd"),
    linear("optimizer.momentum", 0.5, 0.99, when=("optimizer.name", "nesterov")),
    choice("model.normalization", "batch_norm", "group_norm"),
    integer("model.norm_groups", 1, 4, when=("model.normalization", "group_norm")),
    linear("loss.l2", 0.0, 1.0),
    choice("model.hidden", (64,), (64, 64)),
)


def config_with(*axes):
    config = default_config()
    config.search = ConfigDict({"space": axes})
    return config


def parsed(*axes) -> Space:
    return Space.from_config(config_with(*axes))


units = st.lists(st.floats(0, 1), min_size=len(MIXED), max_size=len(MIXED))


@settings(deadline=None)  # the first example imports
@given(units)
def test_what_is_encoded_decodes_to_itself(unit):
    space = parsed(*MIXED)
    values = space.decode(np.array(unit))
    again = space.decode(space.encode(values))
    assert again.keys() == values.keys()
    for key, value in values.items():
        if isinstance(value, float):
            assert again[key] == pytest.approx(value, rel=1e-12, abs=1e-15)
        else:
            assert again[key] == value
    np.testing.assert_array_equal(space.active(values), [key in values for key in space.keys])
    space.check(values, "here")


def test_scales_and_their_ends():
    space = parsed(log("optimizer.learning_rate", 1e-4, 1e-1), linear("model.dropout_rate", 0, 0.5))
    assert list(space.decode(np.zeros(2)).values()) == [1e-4, 0]
    assert list(space.decode(np.ones(2)).values()) == [1e-1, 0.5]
    assert list(space.decode(np.array([1 / 3, 0.5])).values()) == pytest.approx([1e-3, 0.25])
    assert space.decode(np.array([-1e-9, 1 + 1e-9])) == space.decode(np.array([0, 1]))


def test_values_that_can_be_counted_have_equal_shares():
    space = parsed(integer("batch_size", 3, 7), choice("model.activation", "relu", "elu", "gelu"))
    places = (np.arange(1500) + 0.5) / 1500
    decoded = [space.decode(np.array([place, place])) for place in places]
    for key, expected in (("batch_size", 300), ("model.activation", 500)):
        _, counts = np.unique([values[key] for values in decoded], return_counts=True)
        assert (counts == expected).all()


def test_inactive_axes_are_left_out_and_lie_in_the_middle():
    space = parsed(*MIXED)
    values = space.decode(np.array([0.5, 0.9, 0.1, 0.1, 0.9, 0.5, 0.5]))
    assert values["optimizer.name"] == "sgd" and "optimizer.momentum" not in values
    assert space.encode(values)[2] == 0.5 and not space.active(values)[2]


def test_a_condition_on_an_axis_that_is_not_there_itself_is_not_met():
    space = parsed(
        choice("model.normalization", "none", "batch_norm"),
        choice("model.freeze_batch_stats", False, True, when=("model.normalization", "batch_norm")),
        linear("model.batch_norm_decay", 0.5, 0.9, when=("model.freeze_batch_stats", False)),
    )
    assert set(space.decode(np.zeros(3))) == {"model.normalization"}
    assert len(space.decode(np.array([0.9, 0, 0]))) == 3
    assert space.programs() == 3


def test_json_keeps_a_space():
    def tuples(value):
        return tuple(map(tuples, value)) if isinstance(value, list) else value

    assert parsed(*tuples(json.loads(json.dumps(MIXED)))) == parsed(*MIXED)


def test_programs_are_counted_as_they_are_built():
    space, config = parsed(*MIXED), config_with(*MIXED)
    counts = [axis.count or (2 if axis.key == "loss.l2" else 1) for axis in space.axes]
    places = [(np.arange(count) + 0.5) / count for count in counts]
    built = {}
    for unit in itertools.product(*places):
        values = space.decode(np.array(unit))
        assert space.static(values) | space.traced(values) == values
        program = space.program(config, values)
        check_config(program)
        assert built.setdefault(repr(space.static(values)), repr(program)) == repr(program)
    assert len(built) == len(set(built.values())) == space.programs() == 3 * (1 + 4) * 2
    listed = list(space.one_of_each_program())
    assert len(listed) == len(built)
    for values in listed:
        space.check(values, "here")
        assert built[repr(space.static(values))] == repr(space.program(config, values))


def test_many_programs_are_counted_without_listing_them():
    space = parsed(integer("batch_size", 1, 10**6), integer("compute.microbatches", 1, 10**6))
    assert space.programs() == 10**12


def test_a_number_that_is_off_in_the_config_is_on_in_the_program():
    axes = (
        linear("loss.l2", 0.0, 1.0),
        choice("optimizer.clip_norm", 0.0, 1.0),  # 0 would cut gradients down to nothing
        choice("model.dropout_rate", 0.0, 0.5),
        linear("optimizer.layer_decay", 0.5, 1.0),
    )
    space, config = parsed(*axes), config_with(*axes)
    values = {
        "loss.l2": 0.0,
        "optimizer.clip_norm": 0.0,
        "model.dropout_rate": 0.0,
        "optimizer.layer_decay": 1.0,
    }
    program = space.program(config, values)
    assert program.loss.l2 and program.model.dropout_rate and program.optimizer.layer_decay != 1
    assert program.optimizer.clip_norm == 0 and space.programs() == 2
    assert set(space.static(values)) == {"optimizer.clip_norm"}
    assert "search" not in program and config.loss.l2 == 0


def test_lists_are_tuples():
    space = parsed(choice("model.hidden", [64], [128, 64]))
    assert space.axes[0].values == ((64,), (128, 64))


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ((), "has no axes"),
        ((log("optimizer.learning_rat", 1e-3, 1),), "did you mean 'optimizer.learning_rate'"),
        ((log("optimizer", 1e-3, 1),), "is unknown"),
        ((log("optimizer.learning_rate", 0, 1),), "goes through zero"),
        ((log("optimizer.learning_rate", -1.0, 1),), "goes through zero"),
        ((linear("optimizer.learning_rate", 1, 0.1),), "1 to 0.1 is empty (allowed: low < high"),
        ((linear("optimizer.learning_rate", 1, 1),), "is empty"),
        ((linear("optimizer.learning_rate", 1, float("inf")),), "is empty"),
        ((linear("optimizer.learning_rate", 0, float("nan")),), "is empty"),
        ((linear("optimizer.learning_rate", "0", 1),), "are not numbers"),
        ((integer("batch_size", 1.0, 2),), "are not whole numbers"),
        ((integer("batch_size", "16", "64"),), "are not whole numbers"),
        ((integer("batch_size", None, 64),), "are not whole numbers"),
        ((log("optimizer.learning_rate", 1e-3, 1, when=(["batch_size"], 16)),), "is no axis"),
        ((linear("model.dropout_rate", 0, 1),), "model.dropout_rate = 1.0 is out of range"),
        ((linear("optimizer.clip_norm", 0, 1),), "0 switches it off"),
        ((integer("batch_size", 0, 8),), "batch_size = 0 follows the data, and is no value"),
        ((linear("model.pooling_ratio", 1.2, 1.8),), "each of its values would be compiled"),
        ((choice("model.activation"),), "has no values"),
        ((choice("model.activation", "relu", "relu"),), "has a value twice"),
        ((choice("model.activation", "relu", "gelou"),), "did you mean 'gelu'"),
        ((choice("model.activation", 3),), "is of another kind than 'relu'"),
        ((choice("schedule.warmup", "5 perzent"),), "is not a duration"),
        ((linear("loss.l2", 0, 1), log("loss.l2", 0.1, 1)), "loss.l2 stands there twice"),
        ((integer("seed", 0, 3),), "config.search.seeds"),
        ((choice("duration", "1 epochs"),), "duration is not searched"),
        ((choice("data.name", "digits", "moons"),), "scores of other data do not compare"),
        ((choice("search.method", "grid"),), "is unknown"),
        ((linear("loss.l2", 0, 1, when=("optimizer.name", "adam")),), "a choice before it"),
        (
            (choice("optimizer.name", "sgd"), linear("loss.l2", 0, 1, ("optimizer.name", "adam"))),
            "optimizer.name = 'adam' is none (allowed: 'sgd')",
        ),
        ((linear("loss.l2", 0, 1, ("optimizer.name",)),), "no axis (allowed: linear(key, low"),
        ((("log", "loss.l2", 1.0),), "no axis (allowed: log(key, low, high"),
        ((("log",),), "no axis"),
        ((("choice", "model.activation", "relu", ()),), "no axis (allowed: choice(key"),
        ((("uniform", "loss.l2", 0, 1, ()),), "an axis = 'uniform' is unknown"),
        (("loss.l2",), "'loss.l2' is no axis"),
        ((5,), "5 is no axis"),
    ],
)
def test_what_is_refused_is_told_in_one_line(axes, message):
    with pytest.raises(UserError) as error:
        parsed(*axes)
    assert str(error.value).startswith("config.search.space") and "\n" not in str(error.value)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer.nam": "sgd"}, "did you mean 'optimizer.name'"),
        ({"optimizer.momentum": 0.9}, "momentum is given, and optimizer.name = 'nesterov' is not"),
        ({"loss.l2": 2.0}, "loss.l2 = 2.0 is not on its axis (allowed: 0 to 1)"),
        ({"loss.l2": "a"}, "is not on its axis"),
        ({"model.norm_groups": 1.5}, "is not on its axis (allowed: whole numbers 1 to 4)"),
        ({"optimizer.name": "muon"}, "(allowed: 'adam', 'nesterov', 'sgd')"),
        ({"loss.l2": None}, "loss.l2 is missing (allowed: 0 to 1)"),
    ],
)
def test_points_by_hand_are_checked(change, message):
    space = parsed(*MIXED)
    values = space.decode(np.array([0.5, 0.1, 0.5, 0.9, 0.5, 0.5, 0.5])) | change
    values = {key: value for key, value in values.items() if value is not None}
    with pytest.raises(UserError) as error:
        space.check(values, "config.search.enqueue")
    assert str(error.value).startswith("config.search.enqueue") and message in str(error.value)
