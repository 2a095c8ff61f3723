"""Make a config of the defaults that the keys declare."""

from collections.abc import Iterable

from ml_collections import ConfigDict

from research.config.key import Key
from research.config.keys import OPTIONS, RENAMED, SEARCH, TRAINING
from research.errors import UserError, unknown_name


def default_config() -> ConfigDict:
    """Return all keys with their defaults: an MLP with batch norm and Adam on the digits data."""
    return _filled(TRAINING)


def default_search() -> ConfigDict:
    """Return all keys of `config.search`; a config file assigns what differs, `space` at least."""
    return _filled(SEARCH).search


def unknown_key(origin: str, key: str, known: Iterable[str]) -> UserError:
    """Return the error for a key that does not exist: its present name, or the closest one."""
    if key in RENAMED:
        return UserError(f"{origin} = {key!r} is called {RENAMED[key]!r} now")
    return unknown_name(origin, key, known)


def section_of_options(key: str) -> str | None:
    """Return the section, such as 'model', if a key is an option, such as 'model.options.width'."""
    options = next((name for name in OPTIONS if key.startswith(f"{name}.")), None)
    return options and options.rpartition(".")[0]


def _filled(keys: dict[str, Key]) -> ConfigDict:
    config = ConfigDict()
    for key, declared in keys.items():
        section, _, name = key.rpartition(".")
        if section and section not in config:
            config[section] = ConfigDict()
        (config[section] if section else config)[name] = declared.initial()
    return config
