"""The section `search`: what can be refused before any work is done."""

import pytest

from research.config import default_config
from research.errors import UserError
from research.tuning.config import CHOICES, LIMITS, default_search, training
from research.tuning.methods import check_search
from research.tuning.spaces import choice, integer, log

RATE = log("optimizer.learning_rate", 1e-4, 1e-1)


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
            assert f"search.{key}" in LIMITS, key
    assert {key.removeprefix("search.") for key in (*LIMITS, *CHOICES)} <= set(default_search())


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
