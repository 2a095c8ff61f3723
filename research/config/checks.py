"""Refuse configs that cannot be, each mistake in one line."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from research.config.defaults import section_of_options, unknown_key
from research.config.key import Key
from research.config.keys import TRAINING
from research.config.serialization import flatten
from research.errors import UserError


def check_config(config: ConfigDict) -> None:
    """Refuse what can be refused before any work is done.

    Raises:
      UserError: a key that does not exist, a wrong type, or a value out of its range.
    """
    check_values(flatten(config), TRAINING)
    if config.data.path and config.data.name == "digits":  # the default: forgotten, most likely
        raise UserError(
            f"config.data.path = {config.data.path!r} is not read by config.data.name = 'digits' "
            "(allowed: npz, csv, folder, text)"
        )


def check_values(values: Mapping[str, Any], keys: Mapping[str, Key]) -> None:
    """Refuse keys that do not exist or are missing, and values that a key cannot have.

    Args:
      values: by dotted key.
      keys: declarations of all keys that there are, by dotted key.

    Raises:
      UserError: the first mistake.
    """
    for key in values:
        section = section_of_options(key)
        if key not in keys and not section:
            raise unknown_key("config", key, keys)
        if section and "." in key.removeprefix(f"{section}.options."):
            raise UserError(f"config.{key}: options hold no sections (allowed: one value by name)")
    for key, declared in keys.items():
        if declared.options:
            if key in values:  # not a section: `flatten` would have looked inside
                raise UserError(
                    f"config.{key} = {values[key]!r} is no section (allowed: {{'name': value}})"
                )
            continue
        if key not in values:
            raise UserError(f"config.{key} is missing: start from default_config()")
        declared.check(key, values[key])
