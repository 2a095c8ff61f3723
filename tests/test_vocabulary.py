"""The page of names is what the code says, and every number on it is a key of the config."""

import pytest
from conftest import ROOT

from research import vocabulary
from research.config import KEYS, NAMED, usage
from research.data import augmentation
from research.names import choices, numbers_of


def test_the_page_is_up_to_date():
    """If not: python -m research.vocabulary > docs/vocabulary.md."""
    assert (ROOT / "docs" / "vocabulary.md").read_text() == vocabulary.page()


@pytest.mark.parametrize("key", [key for key in NAMED if key not in ("model.name", "task.name")])
def test_numbers_are_keys_of_the_config_with_limits(key):
    section = key.rpartition(".")[0]
    for function in choices(usage.module_of(key)).values():
        names = set(numbers_of(function)) - set(augmentation.OF_THE_BATCH)
        for name in (*names, *getattr(function, "uses", ())):
            declared = KEYS[f"{section}.{name}"]
            checked = declared.range or declared.duration or declared.pairs or declared.form
            assert checked or declared.choices_in or isinstance(declared.default, bool)


def test_a_model_uses_keys_of_its_section():
    for model in choices(usage.module_of("model.name")).values():
        assert {f"model.{name}" for name in model.USES} <= set(KEYS)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("optimizer.momentum", "at least 0 and below 1"),
        ("model.leaky_slope", "any finite number"),
        ("model.hidden", "whole numbers, at least 1 and below 2^31"),
        ("model.depth", "a whole number, at least 1 and below 2^15"),
        ("model.options", "keyword arguments"),
        ("compute.remat", "`True`, `False`"),
        ("schedule.milestones", "durations"),
        ("log_every", "a duration above 0"),
        ("on_divergence", "`stop`, `skip_step`, `rollback`"),
        ("model.name", "[names](#configmodelname)"),
        ("optimizer.name", "[names](#configoptimizername)"),
        ("transfer.checkpoint", "text"),
        ("transfer.freeze", "pairs, as `(('Conv_.*', '100 percent'),)`"),
        ("search.trials", "a whole number, at least 1 and below 2^31"),
        ("search.scheduler", "[names](#configsearchscheduler)"),
        ("search.objective", "`validation_loss` or `validation_<metric>`"),
    ],
)
def test_what_a_key_accepts(key, words):
    assert vocabulary.accepted(key) == words


def test_every_name_is_explained():
    for key in NAMED:
        for choice in choices(usage.module_of(key)).values():
            assert choice.__doc__ and len(choice.__doc__) > 10, choice
