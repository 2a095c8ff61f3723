"""Decide whose code may be imported for a name that stands in a file.

A dotted name such as 'my_package.layers:swish' in the user's own config, flag or call is imported.
One in a run folder, a checkpoint or a ledger is refused unless the user allows its package, for
whoever wrote the file would choose the code that runs here. What is allowed holds for the process:
files are read in many places, and none of them should have to remember to ask.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from research.config.keys import NAMED
from research.errors import UserError
from research.names import is_dotted, is_importable

_allowed: set[str] = set()


def allow(packages: Iterable[str]) -> None:
    """Let files that are read from now on name code of these packages."""
    _allowed.update(packages)


def allow_named(values: Mapping[str, Any]) -> None:
    """Let files name code of the packages that the user's own config names.

    Args:
      values: the user's config, by dotted key.
    """
    allow(_package(name) for _, name in _dotted(values))


def check(values: Mapping[str, Any], origin: str) -> None:
    """Refuse a config that was read from a file and names code that the user does not allow.

    Args:
      values: the config, by dotted key.
      origin: for the error, where the config comes from.

    Raises:
      UserError: it names the key, the name, and the flag that allows it.
    """
    for key, name in _dotted(values):
        if _package(name) not in _allowed:
            raise UserError(
                f"{origin}: config.{key} = {name!r} would import code (if you trust the package: "
                f"--allow={_package(name)})"
            )


def _dotted(values: Mapping[str, Any]):
    """Yield (key, dotted name) for each name of the user's own code."""
    if is_importable(values.get("data.name")):
        yield "data.name", values["data.name"]
    for key in NAMED:
        value = values.get(key)
        for name in value if isinstance(value, (tuple, list)) else (value,):
            if is_dotted(name):
                yield key, name


def _package(name: str) -> str:
    return name.partition(":")[0].partition(".")[0]
