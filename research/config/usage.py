"""Find out which keys have an effect under the choices that a config makes.

Nothing here is listed by hand. A function takes the numbers that are its keyword-only parameters
and those in its attribute `uses`; a model uses those keys of `config.model` in the `USES` of its
file, and those that no model's `USES` holds.
"""

import functools
import importlib
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from research.config.keys import KEYS, NAMED
from research.names import choices, is_dotted, is_importable, numbers_of, resolve, takes

_MODEL = "model.name"
_TOYS = "research.data.toys"  # data sets that are functions


def module_of(key: str) -> ModuleType:
    """Return the module that has the choices of a key."""
    return importlib.import_module(KEYS[key].choices_in)


def named(values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return what the names of a config stand for, by key.

    Args:
      values: the config, by dotted key.

    Raises:
      UserError: a name that stands for nothing.
    """
    found = {key: _functions(key, values[key]) for key in NAMED if key in values}
    data = values.get("data.name")
    if is_importable(data):
        found["data.name"] = [resolve("config.data.name", data, importlib.import_module(_TOYS))]
    return found


def warnings(values: Mapping[str, Any]) -> list[str]:
    """Return a line for each key that is not at its default and has no effect.

    Args:
      values: a config whose names stand for something, by dotted key.
    """
    return [
        f"config.{key} = {values[key]!r} has no effect with config.{choice} = {values[choice]!r} "
        f"(used by: {', '.join(users)})"
        for key, (choice, users) in idle(values).items()
        if values[key] != KEYS[key].default
    ]


def idle(values: Mapping[str, Any]) -> dict[str, tuple[str, list[str]]]:
    """Return the keys without effect: {key: (key of the choice, names that would use it)}.

    Args:
      values: a config whose names stand for something, by dotted key.
    """
    found = {}
    if _MODEL in values:
        found = {key: (_MODEL, users) for key, users in _unused_by_model(values[_MODEL]).items()}
    takers = _takers(tuple(key for key in NAMED if key in values))
    while True:
        # A choice that is itself a number of another choice counts only where that one takes it.
        active = [key for key in NAMED if key in values and key not in found]
        taken = {number for key in active for number in _taken(key, values[key])}
        new = {
            key: found.get(choice, (choice, users))  # a choice without effect is not the cause
            for key, (choice, users) in takers.items()
            if key not in taken and key not in found and not KEYS[key].shared
        }
        if not new:
            return found
        found |= new


@functools.cache
def _takers(names: tuple[str, ...]) -> dict[str, tuple[str, list[str]]]:
    """Return the keys that functions take by name: {key: (key of the choice, their names)}."""
    takers: dict[str, tuple[str, list[str]]] = {}
    for key in names:
        for name, function in choices(module_of(key)).items():
            for number in _numbers(key, function):
                if number in KEYS:
                    users = takers.setdefault(number, (key, []))[1]
                    users.extend([name] if name not in users else [])
    return takers


def _taken(key: str, value: Any) -> list[str]:
    functions = _functions(key, value)
    if value in KEYS[key].choices:  # such as 'auto', which may choose any of them
        functions = list(choices(module_of(key)).values())
    return [number for function in functions for number in _numbers(key, function)]


def _numbers(key: str, function: Any) -> list[str]:
    """Return the keys that a choice takes by name."""
    if isinstance(function, ModuleType):
        return []
    section = key.rpartition(".")[0]
    return [f"{section}.{name}" for name in (*numbers_of(function), *getattr(function, "uses", ()))]


def _unused_by_model(name: str) -> dict[str, list[str]]:
    """Return the keys of `config.model` that a model does not use, and the models that do."""
    files = choices(module_of(_MODEL))
    models = {each: getattr(file, "USES", ()) for each, file in files.items()}
    special = {key for uses in models.values() for key in uses}
    own = resolve(f"config.{_MODEL}", name, module_of(_MODEL)) if is_dotted(name) else None
    unused = special - {*models.get(name, ())}
    if own is not None:
        unused -= {*getattr(own, "USES", special)}
        if not takes(own, "layers") and not takes(own, "model"):
            section = [key for key in KEYS if key.startswith("model.") and not KEYS[key].options]
            unused = {key.partition(".")[2] for key in section} - {"name"}
    return {
        f"model.{key}": [each for each, uses in models.items() if key in uses or key not in special]
        for key in sorted(unused)
    }


def _functions(key: str, value: Any) -> list[Any]:
    names = () if value is None else value if isinstance(value, tuple) else (value,)
    words = KEYS[key].choices
    return [resolve(f"config.{key}", name, module_of(key)) for name in names if name not in words]
