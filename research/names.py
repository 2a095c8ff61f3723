"""Resolve names: a name of the config is a public function of a module.

There is no registry: to add a choice, write it in its file. The numbers that a function takes are
its keyword-only parameters, which are named like keys of the config.

A dotted name is code of the user's own: 'my_package.layers:swish' or 'my_package.layers.swish'.
Besides the numbers it may take keyword arguments from `config.<section>.options`.
"""

import functools
import importlib
import importlib.util
import inspect
import pkgutil
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any

from research import dotted
from research.errors import UserError, closest, listed, unknown_name

_OURS = __name__.partition(".")[0]
_objects: dict[str, Any] = {}  # passed in from Python, by their names
_GIVEN = ("model", "layers", "outputs", "learning_rate", "scheduled")  # by us, to a factory


def public_functions(module: ModuleType) -> dict[str, Callable]:
    """Return the public functions and classes *defined* in a module, by name."""
    return {
        name: member
        for name, member in vars(module).items()
        if callable(member) and not name.startswith("_") and member.__module__ == module.__name__
    }


def choices(module: ModuleType) -> dict[str, Any]:
    """Return what the names of a key stand for: functions, or a package's modules with `build`."""
    if not hasattr(module, "__path__"):
        return public_functions(module)
    names = [info.name for info in pkgutil.iter_modules(module.__path__)]
    modules = {name: importlib.import_module(f"{module.__name__}.{name}") for name in names}
    return {name: module for name, module in modules.items() if hasattr(module, "build")}


def is_dotted(name: object) -> bool:
    """Return whether a name stands for code of the user's own: 'package.module:function'."""
    return isinstance(name, str) and ("." in name or ":" in name)


def is_importable(name: object) -> bool:
    """Return whether a name is dotted and made of identifiers.

    Names of data sets may be dotted too: 'cifar10:3.0.2' is one of TFDS.
    """
    return is_dotted(name) and all(part.isidentifier() for part in re.split("[.:]", name))


def name_of(thing: Any) -> str:
    """Return a name for an object that `resolve` turns back into it.

    A function or class at the top of a module that can be imported has its dotted name, which other
    processes understand too. Other objects are known in this process alone, as 'object:Name'.
    """
    module, path = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    at_top = module and path and getattr(sys.modules.get(module), path, None) is thing
    if at_top and module != "__main__":
        return f"{module}:{path}"
    base = f"object:{path.rpartition('.')[2] if path else type(thing).__name__}"
    base = "".join(char if char.isalnum() or char in "_:" else "_" for char in base)
    name, number = base, 1
    while _objects.get(name, thing) is not thing:
        name, number = f"{base}_{number}", number + 1
    _objects[name] = thing
    return name


def resolve(key: str, name: str, module: ModuleType) -> Any:
    """Return the function that a config's name stands for.

    Args:
      key: for errors, such as 'config.model.activation'.
      name: of a public function of `module`, or a dotted name of the user's own code.
      module: the module that has the choices; a package if they are its modules with `build`.

    Raises:
      UserError: no such function or module; the line names the closest and all valid ones. An
        error inside the user's module is left as it is.
    """
    if is_dotted(name):
        return _checked(key, name, _own(key, name), module)
    functions = choices(module)
    if name not in functions:
        raise unknown_name(key, name, functions)
    return functions[name]


def numbers_of(function: Callable) -> list[str]:
    """Return the numbers a function takes: its keyword-only parameters."""
    return [p.name for p in _parameters(function) if p.kind is p.KEYWORD_ONLY]


def options_of(function: Callable) -> list[str]:
    """Return the options that a function of the user's own takes; none of a function of ours.

    They are its keyword-only parameters and those with a default, and all fields of a class; but
    not what the package gives by itself, such as `outputs` and `learning_rate`.
    """
    function = _unbuilt(function)
    if (getattr(function, "__module__", None) or "").partition(".")[0] == _OURS:
        return []
    return [
        name
        for name, each in _by_keyword(function).items()
        if name not in _GIVEN
        and (inspect.isclass(function) or each.kind is each.KEYWORD_ONLY or not _needed(each))
    ]


def bind(function: Callable, section: Mapping, traced: Mapping) -> Callable:
    """Fill in the numbers that a function takes, and the options of one of the user's own.

    Args:
      function: of a module that a config's names stand for, or the user's own.
      section: of the config, for settings that are static; `section['options']` goes first.
      traced: the same section of the traced hyper-parameters; goes before the section.

    Raises:
      KeyError: a number that the section does not have, of a function of ours.
      UserError: a keyword that nothing gives, of a function of the user's own.
    """
    options = _options(function, section)
    numbers = {}
    for name in numbers_of(function):
        if name in options:
            continue
        if name in traced:
            numbers[name] = traced[name]
        elif name in section or not options_of(function):
            numbers[name] = section[name]
    bound = functools.partial(function, **numbers, **options)
    if options_of(function):
        _demand(function, bound.keywords, numbers_of(function))
    return bound


def call(function: Any, section: Mapping, **given: Any) -> Any:
    """Call a factory of the user's own, such as a class, with those arguments that it takes.

    Args:
      function: a function, a class, or a module with a function `build`.
      section: of the config; `section['options']` has the keyword arguments.
      **given: arguments that the factory may take by name.

    Raises:
      UserError: it needs an argument that is neither given nor an option.
    """
    function = _unbuilt(function)
    taken = {name: value for name, value in given.items() if takes(function, name)}
    arguments = taken | _options(function, section)
    _demand(function, arguments, list(_by_keyword(function)))
    return function(**arguments)


def takes(function: Any, name: str) -> bool:
    """Return whether a factory takes an argument by this name."""
    return name in _by_keyword(_unbuilt(function))


def check_options(section: str, options: Mapping, functions: Iterable[Any]) -> None:
    """Refuse an option that nothing takes.

    Args:
      section: its name, such as 'model'.
      options: `config.<section>.options`.
      functions: what the keys of the section name.

    Raises:
      UserError: the line names the closest option and all valid ones.
    """
    allowed = sorted({name for each in functions for name in options_of(each)})
    for name in options:
        if name in allowed:
            continue
        close = closest(name, allowed)
        raise UserError(
            f"config.{section}.options.{name} is taken by nothing of your own that config."
            f"{section} names"
            + (f"; did you mean {close!r}?" if close else "")
            + f" (allowed: {', '.join(allowed) or 'none'})"
        )


def _unbuilt(function: Any) -> Callable:
    return getattr(function, "build", None) if isinstance(function, ModuleType) else function


def _parameters(function: Callable) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except ValueError:  # written in C
        return []


def _by_keyword(function: Callable) -> dict[str, inspect.Parameter]:
    """Return the parameters that may be given by keyword; a Flax module's own two are left out."""
    kinds = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    of_flax = ("parent", "name") if inspect.isclass(function) else ()
    return {p.name: p for p in _parameters(function) if p.kind in kinds and p.name not in of_flax}


def _needed(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty


def _options(function: Callable, section: Mapping) -> dict[str, Any]:
    options = section.get("options") or {}
    return {name: options[name] for name in options_of(function) if name in options}


def _demand(function: Callable, arguments: Mapping, names: list[str]) -> None:
    parameters = _by_keyword(function)
    missing = [name for name in names if name not in arguments and _needed(parameters[name])]
    if missing:
        raise UserError(
            f"{getattr(function, '__qualname__', function)} needs {', '.join(missing)} (allowed: a "
            "key of its section of the config, or an entry of `options` there)"
        )


def _checked(key: str, name: str, thing: Any, module: ModuleType) -> Any:
    """Refuse an object that is no function, or for a package of models no module with `build`."""
    of_models = hasattr(module, "__path__")
    if callable(_unbuilt(thing) if of_models else thing):
        return thing
    wanted = "a function" + ", or a module with `build`" * of_models
    what = f"of type {type(thing).__name__}"
    if isinstance(thing, ModuleType):
        what = f"a module of {listed(dotted.public(thing))}"
    raise UserError(f"{key} = {name!r} is {what} (allowed: {wanted})")


def _own(key: str, name: str) -> Any:
    if not name.startswith("object:"):
        return dotted.imported(key, name)
    if name not in _objects:
        raise UserError(
            f"{key} = {name!r} was passed in from Python, and is not known in this process "
            "(allowed: pass it again, or a dotted name that can be imported)"
        )
    return _objects[name]
