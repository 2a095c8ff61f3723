"""The page of names is what the code says, and every number on it is a key of the config."""

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


def test_every_name_is_explained():
    for module in vocabulary.NAMED.values():
        for function in public_functions(module).values():
            assert function.__doc__ and len(function.__doc__) > 10, function
