"""Mistakes of the user, and how they are told: one line that names what to do next."""

import difflib
from collections.abc import Callable, Iterable
from types import ModuleType


class UserError(Exception):
    """A mistake of the user. Entry points print it as one line on stderr and exit with code 2."""


def unknown_name(key: str, value: object, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist: the key, the value, the closest, all allowed."""
    names = sorted(allowed)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(f"{key} = {value!r} is unknown{hint} (allowed: {', '.join(names)})")


def public_functions(module: ModuleType) -> dict[str, Callable]:
    """The public functions and classes *defined* in a module, by name."""
    return {
        name: member
        for name, member in vars(module).items()
        if callable(member) and not name.startswith("_") and member.__module__ == module.__name__
    }


def resolve(key: str, name: str, module: ModuleType) -> Callable:
    """The function that a config's name stands for.

    There is no registry: a name is a public function of the module, so a new choice is added by
    writing it.

    Raises:
      UserError: no such function; the line names the closest and all valid ones.
    """
    functions = public_functions(module)
    if name not in functions:
        raise unknown_name(key, name, functions)
    return functions[name]
