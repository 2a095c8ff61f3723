"""Turn configs into flat keys and into JSON, and back."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research.atomic import read_text
from research.config import trust
from research.config.defaults import default_config, unknown_key
from research.config.keys import OPTIONS, RENAMED
from research.errors import UserError


def flatten(config: ConfigDict) -> dict[str, Any]:
    """Return all leaves by dotted key, in order: {'optimizer.learning_rate': 0.001, ...}."""
    flat = {}
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def differences(ours: ConfigDict, theirs: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """Return the keys in which two configs differ, with both values."""
    a, b = flatten(ours), flatten(theirs)
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}


def to_json(config: ConfigDict) -> str:
    """Return the complete config as JSON text."""
    return json.dumps(config.to_dict(), indent=2)


def read(path: Path, trusted: bool = False) -> ConfigDict:
    """Read the text of `to_json` from a file; see `from_json`.

    Raises:
      UserError: it cannot be read, or as for `from_json`.
    """
    try:
        return from_json(read_text(path), str(path), trusted)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def from_json(text: str, origin: str, trusted: bool = False) -> ConfigDict:
    """Read the text of `to_json`, or a part of it, over the defaults.

    Keys that had another name when the text was written get their present name.

    Args:
      text: JSON.
      origin: for errors, where the text comes from.
      trusted: whether dotted names need no permission (`trust`), because the config comes from the
        user's own command, or is only compared or shown.

    Raises:
      UserError: not JSON, a key or type that the defaults do not have, or code that is not allowed.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("not an object")
        if "search" in values:
            raise UserError(f"{origin} is of a search (python -m research.search goes on with it)")
        config = default_config()
        _update(config, _in_words_of_today(values), origin)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin}: not a configuration in JSON ({error})") from None
    if not trusted:
        trust.check(flatten(config), origin)
    return config


def tuples(value):
    """Return a value of JSON with tuples for its lists, all the way down."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value


def _in_words_of_today(values: dict) -> dict:
    """Return values of a version before tasks, which named the objective of its only task."""
    stopping = values.get("early_stopping")
    if "task" in values or not isinstance(stopping, dict) or stopping.get("metric") != "accuracy":
        return values
    rest = {name: value for name, value in stopping.items() if name != "metric"}
    return {**values, "early_stopping": rest}


def _update(config: ConfigDict, values: dict, origin: str, section: str = "") -> None:
    for name, value in values.items():
        key = section + name
        name = RENAMED.get(key, key).rpartition(".")[2]  # a key keeps its section
        if name not in config:
            raise unknown_key(origin, key, flatten(default_config()))
        if key in OPTIONS and isinstance(value, dict):
            config[name] = ConfigDict({option: tuples(each) for option, each in value.items()})
            continue
        if isinstance(config[name], ConfigDict) and isinstance(value, dict):
            _update(config[name], value, origin, f"{key}.")
            continue
        try:
            config[name] = tuples(value)
        except TypeError as error:
            raise UserError(f"{origin}: {key} = {value!r}: {error}") from None
