"""Names stand for functions: a name of the config is a public function of a module.

There is no registry: a new choice is added by writing it in its file. The numbers a function takes
are its keyword-only parameters, which are named like the keys of the config they come from.
"""

import functools
import inspect
from collections.abc import Callable, Mapping
from types import ModuleType

from research.errors import unknown_name


def public_functions(module: ModuleType) -> dict[str, Callable]:
    """The public functions and classes *defined* in a module, by name."""
    return {
        name: member
        for name, member in vars(module).items()
        if callable(member) and not name.startswith("_") and member.__module__ == module.__name__
    }


def resolve(key: str, name: str, module: ModuleType) -> Callable:
    """The function that a config's name stands for.

    Raises:
      UserError: no such function; the line names the closest and all valid ones.
    """
    functions = public_functions(module)
    if name not in functions:
        raise unknown_name(key, name, functions)
    return functions[name]


def numbers_of(function: Callable) -> list[str]:
    """The numbers a function takes: its keyword-only parameters."""
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.kind is parameter.KEYWORD_ONLY]


def bind(function: Callable, section: Mapping, traced: Mapping) -> Callable:
    """Fills in the numbers that a function takes.

    Args:
      function: of a module that a config's names stand for.
      section: of the config, for settings that are static.
      traced: the same section of the traced hyper-parameters; goes first.

    Raises:
      KeyError: a number that the section does not have.
    """
    numbers = {
        name: traced[name] if name in traced else section[name] for name in numbers_of(function)
    }
    return functools.partial(function, **numbers)
