"""Configs as flat keys and as JSON, and back."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research.atomic import read_text
from research.config.defaults import default_config
from research.errors import UserError, unknown_name


def flatten(config: ConfigDict) -> dict[str, Any]:
    """All leaves by dotted key, in the config's order: {'optimizer.learning_rate': 0.001, ...}."""
    flat = {}
    for key in config:
        value = config[key]
        if isinstance(value, ConfigDict):
            flat.update({f"{key}.{inner}": leaf for inner, leaf in flatten(value).items()})
        else:
            flat[key] = value
    return flat


def differences(ours: ConfigDict, theirs: ConfigDict) -> dict[str, tuple[Any, Any]]:
    """The keys in which two configs differ, with both values."""
    a, b = flatten(ours), flatten(theirs)
    return {key: (a.get(key), b.get(key)) for key in {**a, **b} if a.get(key) != b.get(key)}


def to_json(config: ConfigDict) -> str:
    """The complete config as JSON text."""
    return json.dumps(config.to_dict(), indent=2)


def read(path: Path) -> ConfigDict:
    """Reads `to_json` back from a file.

    Raises:
      UserError: it cannot be read, or as for `from_json`.
    """
    try:
        return from_json(read_text(path), str(path))
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None


def from_json(text: str, origin: str) -> ConfigDict:
    """Reads back `to_json`, or part of it, over the defaults.

    Raises:
      UserError: not JSON, or a key or type that the defaults do not have.
    """
    try:
        values = json.loads(text)
        if not isinstance(values, dict):
            raise ValueError("not an object")
        if "search" in values:
            raise UserError(f"{origin} is of a search (python -m research.search goes on with it)")
        config = default_config()
        _update(config, values, origin)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{origin}: not a configuration in JSON ({error})") from None
    return config


def _update(config: ConfigDict, values: dict, origin: str, prefix: str = "") -> None:
    for key, value in values.items():
        if key not in config:
            raise unknown_name(origin, prefix + key, flatten(default_config()))
        if isinstance(config[key], ConfigDict) and isinstance(value, dict):
            _update(config[key], value, origin, f"{prefix}{key}.")
            continue
        try:
            config[key] = tuples(value)
        except TypeError as error:
            raise UserError(f"{origin}: {prefix}{key} = {value!r}: {error}") from None


def tuples(value):
    """JSON has lists where the config has tuples, all the way down."""
    return tuple(map(tuples, value)) if isinstance(value, (list, tuple)) else value
