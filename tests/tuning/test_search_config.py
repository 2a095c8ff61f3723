"""The section `search`: what can be refused before any work is done."""

import copy
import json

import pytest

from research.config import SEARCH, default_config, flatten, to_json, usage
from research.errors import UserError
from research.tuning.config import completed, default_search, training
from research.tuning.methods import check_search
from research.tuning.spaces import choice, integer, linear, log

RATE = log("optimizer.learning_rate", 1e-4, 1e-1)
MOMENTUM = ("optimizer.name", "nesterov")


def searched(*space, **settings):
    config = default_config()
    config.search = default_search()
    config.search.space = space or (RATE,)
    config.search.update(settings)
    return config


def test_the_defaults_are_fine_and_every_number_has_limits():
    check_search(searched())
    for key, value in default_search().items():
        numbers = value if isinstance(value, tuple) and value else (value,)
        if all(isinstance(n, (int, float)) and not isinstance(n, bool) for n in numbers):
            assert SEARCH[f"search.{key}"].range or not value, key
    assert set(SEARCH) == {f"search.{key}" for key in default_search()}


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"trials": 0}, r"config.search.trials = 0 .*at least 1"),
        ({"segments": 0}, r"config.search.segments = 0 .*at least 1"),
        ({"reduction": 1}, r"config.search.reduction = 1 .*at least 2"),
        ({"exploit_share": 0.7}, r"config.search.exploit_share = 0.7 .*below 0.5"),
        (
            {"objective": "val_loss"},
            r"config.search.objective = 'val_loss'.*did you mean 'validation_loss'",
        ),
        ({"enqueue": ((1, 2),)}, r"config.search.enqueue: \(1, 2\) is no tuple of pairs"),
        (
            {"enqueue": ((("optimizer.learning_rate", 1.0),),)},
            r"config.search.enqueue: optimizer.learning_rate = 1.0 is not on its axis",
        ),
    ],
)
def test_values_out_of_their_range(settings, told):
    with pytest.raises(UserError, match=told):
        check_search(searched(**settings))


def test_more_programs_than_are_meant_are_counted():
    space = (
        RATE,
        choice("optimizer.name", "adam", "nesterov", "sgd"),
        integer("batch_size", 32, 41),
    )
    check_search(searched(*space, max_programs=30))
    told = r"30 programs to compile.*optimizer.name, batch_size \(allowed: .*max_programs = 16"
    with pytest.raises(UserError, match=told):
        check_search(searched(*space))


def test_an_axis_without_effect_is_refused():
    momentum = linear("optimizer.momentum", 0.5, 0.99)
    told = r"space: optimizer.momentum has no effect with config.optimizer.name = 'adam' \(used by"
    with pytest.raises(UserError, match=told):
        check_search(searched(RATE, momentum))
    name = choice("optimizer.name", "adam", "nesterov")
    check_search(searched(RATE, name, momentum))
    check_search(searched(name, linear("optimizer.momentum", 0.5, 0.99, when=MOMENTUM)))
    # Where it has no effect it stays at the value of the config, and there is nothing to warn of.
    config = searched(name, momentum)
    space = check_search(config)
    for value, number in (("adam", 0.9), ("nesterov", 0.745)):
        program = space.program(config, {"optimizer.name": value, "optimizer.momentum": 0.6})
        assert program.optimizer.momentum == pytest.approx(number)
        assert usage.warnings(flatten(program)) == []


def test_earlier_names_of_keys_in_a_ledger_are_read():
    ours = json.loads(to_json(searched()))
    ours["ensemble"]["lane_mode"], ours["search"]["segments"] = "sequential", 7
    theirs = copy.deepcopy(ours)
    theirs["ensemble"]["lanes"] = theirs["ensemble"].pop("lane_mode")
    theirs["search"]["pieces"] = theirs["search"].pop("segments")
    assert completed(theirs) == ours


def test_other_keys_and_other_sections():
    config = searched()
    config.search.metod = "grid"
    with pytest.raises(UserError, match=r"search.metod.*did you mean 'search.method'"):
        check_search(config)
    config = searched()
    config.optimizer.learning_rate = -1.0
    with pytest.raises(UserError, match=r"config.optimizer.learning_rate = -1.0"):
        check_search(config)
    with pytest.raises(UserError, match="no section `search`: python -m research.main"):
        check_search(default_config())
    assert "search" not in training(searched()) and training(searched()) == default_config()
