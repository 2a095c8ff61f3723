"""The section `search` of a config: its checks; research/config/keys/search.py has its keys."""

import json
from typing import Any

from ml_collections import ConfigDict

from research.config import (
    RENAMED,
    SEARCH,
    check_config,
    check_values,
    default_config,
    default_search,
    flatten,
    to_json,
)
from research.errors import UserError
from research.names import resolve
from research.tuning.spaces import Space


def check_search(config: ConfigDict) -> Space:
    """Refuses what can be refused before any work is done.

    Args:
      config: a training config with a section `search`.

    Returns:
      The space to search.

    Raises:
      UserError: a key, a type or a value that cannot be; more programs than are allowed.
    """
    if not isinstance(config.get("search"), ConfigDict):
        raise UserError(
            "the config has no section `search`: python -m research.main trains it (allowed: "
            "config.search = default_search(), as in configs/search_bn_adam.py)"
        )
    from research.tuning import engines, lane_modes, methods, schedulers

    check_section(config)
    modules = {"scheduler": schedulers, "lane_mode": lane_modes, "engine": engines}
    for key, module in modules.items():
        resolve(f"config.search.{key}", config.search[key], module)
    methods.from_config(config.search)
    check_config(training(config))
    space = Space.from_config(config)
    programs = space.programs()
    if programs > config.search.max_programs:
        static = [key for key in space.keys if not space.is_traced(key)]
        raise UserError(
            f"config.search.space: {programs} programs to compile, one for each combination of "
            f"{', '.join(static)} (allowed: config.search.max_programs = "
            f"{config.search.max_programs})"
        )
    if not _pairs(config.search.slurm_options):
        raise UserError(
            f"config.search.slurm_options = {config.search.slurm_options!r} is no tuple of pairs "
            "(allowed: (('partition', 'gpu'), ...))"
        )
    for point in config.search.enqueue:
        if not _pairs(point):
            raise UserError(
                f"config.search.enqueue: {point!r} is no tuple of pairs (allowed: "
                "(('optimizer.learning_rate', 1e-3), ...))"
            )
        space.check(dict(point), "config.search.enqueue")
    return space


def check_section(config: ConfigDict) -> None:
    """Refuses keys, types and values that the section `search` of a config cannot have.

    Raises:
      UserError: there is one.
    """
    check_values(flatten(ConfigDict({"search": config.search})), SEARCH)


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a config of a ledger with the defaults of keys that are newer than it is.

    Raises:
      UserError: a key has another name now.
    """
    given = flatten(ConfigDict(values))
    for old, new in RENAMED.items():
        if old in given:
            raise UserError(f"the ledger's config has {old!r}, which is called {new!r} now")
    defaults = default_config()
    defaults.search = default_search()
    return _over(json.loads(to_json(defaults)), values)


def _over(defaults: Any, values: Any) -> Any:
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    return defaults | {key: _over(defaults.get(key), value) for key, value in values.items()}


def _pairs(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in value
    )


def training(config: ConfigDict) -> ConfigDict:
    """Return the config without its section `search`: what a run of its own takes."""
    return ConfigDict({key: config[key] for key in config if key != "search"})
