"""Import the objects that dotted names stand for: 'package.module:function'."""

import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from research.errors import UserError, closest, listed


def imported(key: str, name: str) -> Any:
    """Return the object of a dotted name; parts of a name stay within their package.

    Raises:
      UserError: no such module or object, or a name that leads into another package.
    """
    path, _, attributes = name.partition(":")
    parts = [*path.split("."), *filter(None, attributes.split("."))]
    if not all(part.isidentifier() for part in parts):
        raise UserError(
            f"{key} = {name!r} is no dotted name (allowed: 'package.module:function' or "
            "'package.module.function')"
        )
    _make_importable(Path.cwd())
    package = parts[0]
    if package not in sys.modules and importlib.util.find_spec(package) is None:
        names = [info.name for info in pkgutil.iter_modules()]
        raise _nothing_there(key, name, f"there is no module {package!r}", package, names, False)
    thing = importlib.import_module(package)
    for index, part in enumerate(parts[1:], start=1):
        thing = _member(key, name, thing, part, may_be_module=index < len(path.split(".")))
        if isinstance(thing, ModuleType) and thing.__name__.partition(".")[0] != package:
            raise UserError(
                f"{key} = {name!r}: {'.'.join(parts[: index + 1])} is the module {thing.__name__} "
                "of another package (allowed: its own name)"
            )
    return thing


def _member(key: str, name: str, holder: Any, part: str, may_be_module: bool) -> Any:
    """Return an attribute of an object, or a module of a package."""
    if hasattr(holder, part):
        return getattr(holder, part)
    where = getattr(holder, "__name__", repr(holder))
    inside = getattr(holder, "__path__", None)
    if may_be_module and inside and importlib.util.find_spec(f"{where}.{part}"):
        return importlib.import_module(f"{where}.{part}")
    modules = [info.name for info in pkgutil.iter_modules(inside)] if inside else []
    names = sorted({*public(holder), *modules})
    raise _nothing_there(key, name, f"{where} has no {part!r}", part, names, True)


def _nothing_there(key, name, problem, part: str, names: list[str], tell: bool) -> UserError:
    close = closest(part, names)
    hint = f"; did you mean {close!r}?" if close else ""
    allowed = listed(names) if tell else "modules of the Python path and of the current folder"
    return UserError(f"{key} = {name!r}: {problem}{hint} (allowed: {allowed})")


def _make_importable(folder: Path) -> None:
    """Make modules of a folder importable, as `python -m` does, behind all others."""
    if str(folder) not in sys.path and "" not in sys.path:
        sys.path.append(str(folder))
        importlib.invalidate_caches()


def public(holder: Any) -> list[str]:
    """Return the public names of an object or a module."""
    return [name for name in dir(holder) if not name.startswith("_")]
