"""The section `search` of a config: its checks; research/config/keys/search.py has its keys."""

import json
from typing import Any

from ml_collections import ConfigDict

from research.config import (
    RENAMED,
    SEARCH,
    check_values,
    default_config,
    default_search,
    flatten,
    to_json,
)
from research.errors import UserError


def check_section(config: ConfigDict) -> None:
    """Check the keys, types and ranges of the section `search` of a config.

    Raises:
      UserError: one of them is wrong.
    """
    check_values(flatten(ConfigDict({"search": config.search})), SEARCH)


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a config, as JSON, with today's names and the defaults of keys that it lacks."""
    defaults = default_config()
    defaults.search = default_search()
    return _over(json.loads(to_json(defaults)), values)


def _over(defaults: Any, values: Any, section: str = "") -> Any:
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    found = dict(defaults)
    for key, value in values.items():
        name = RENAMED.get(section + key, section + key).rpartition(".")[2]
        found[name] = _over(defaults.get(name), value, f"{section}{key}.")
    return found


# Settings that work in the lanes of a search; any other value would be ignored there.
_IN_LANES = {
    "ensemble.members": (1,),
    "ensemble.snapshots": (0,),
    "parallel.mode": ("jit",),
    "parallel.model_devices": (1,),
    "transfer.checkpoint": (None,),
    "averaging.name": ("none",),
    "on_divergence": ("stop", "skip_step"),
    "early_stopping.patience": (default_config().early_stopping.patience,),
}


def check_lanes(config: ConfigDict) -> None:
    """Check that the lanes of a search can train a config.

    Raises:
      UserError: the config asks for something that lanes cannot do.
    """
    values = flatten(config)
    for key, allowed in _IN_LANES.items():
        if values[key] not in allowed:
            raise UserError(
                f"config.{key} = {values[key]!r} does not go with a search (allowed: "
                f"{', '.join(map(repr, allowed))})"
            )


def training(config: ConfigDict) -> ConfigDict:
    """Return the config without its section `search`, as a single run takes it."""
    return ConfigDict({key: config[key] for key in config if key != "search"})
