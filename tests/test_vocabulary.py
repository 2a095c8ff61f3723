"""The page of names is what the code says, and every number on it is a key of the config."""

import pytest
from conftest import ROOT

from research import vocabulary
from research.config import LIMITS, PAIRS, TRACED, TRACED_DURATIONS, default_config, flatten
from research.data import augmentation
from research.names import numbers_of, public_functions


def test_the_page_is_up_to_date():
    """If not: python -m research.vocabulary > docs/vocabulary.md."""
    assert (ROOT / "docs" / "vocabulary.md").read_text() == vocabulary.page()


def test_numbers_are_keys_of_the_config_with_limits():
    keys = flatten(default_config())
    for key, module in vocabulary.NAMED.items():
        assert key in keys
        section = key.rpartition(".")[0]
        for function in public_functions(module).values():
            for number in set(numbers_of(function)) - set(augmentation.OF_THE_BATCH):
                assert (name := f"{section}.{number}" if section else number) in keys
                checked = {*TRACED, *TRACED_DURATIONS, *LIMITS, *PAIRS}
                assert name in checked or isinstance(keys[name], bool)


def test_numbers_of_a_search_are_its_keys():
    for key, module in vocabulary.SEARCH.items():
        assert key in vocabulary.defaults()
        for function in public_functions(module).values():
            assert {f"search.{number}" for number in numbers_of(function)} <= set(
                vocabulary.defaults()
            )


def test_every_key_is_explained_by_its_comment():
    told = vocabulary.meanings()
    assert set(vocabulary.defaults()) <= set(told)
    assert not [key for key in vocabulary.defaults() if len(told[key]) < 5]
    assert told["optimizer.clip_norm"] == (  # over two lines
        "rescales gradients whose global norm is larger (Pascanu et al., 2013); 0: off"
    )
    assert told["preprocessing"] == "fitted on train only"  # of a section


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("optimizer.momentum", "at least 0 and below 1"),
        ("model.leaky_slope", "any finite number"),
        ("model.hidden", "whole numbers, at least 1 and below 2^31"),
        ("model.depth", "a whole number"),
        ("compute.remat", "`True`, `False`"),
        ("schedule.milestones", "durations"),
        ("log_every", "a duration above 0"),
        ("on_divergence", "`stop`, `skip_step`, `rollback`"),
        ("model.name", "`cnn`, `mlp`, `resnet`, `transformer`"),
        ("optimizer.name", "[names](#configoptimizername)"),
        ("transfer.checkpoint", "text"),
        ("search.trials", "a whole number, at least 1 and below 2^31"),
        ("search.scheduler", "[names](#configsearchscheduler)"),
        ("search.objective", "`validation_loss`, `validation_accuracy`"),
    ],
)
def test_what_a_key_accepts(key, words):
    assert vocabulary.accepted(key) == words


def test_every_name_is_explained():
    for module in (*vocabulary.NAMED.values(), *vocabulary.SEARCH.values()):
        for function in public_functions(module).values():
            assert function.__doc__ and len(function.__doc__) > 10, function
