"""Mistakes of the user, and how they are told: one line that names what to do next."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the user. Entry points print it as one line on stderr and exit with code 2."""


def unknown_name(key: str, value: object, allowed: Iterable[str]) -> UserError:
    """The error for a name that does not exist: the key, the value, the closest, all allowed."""
    names = sorted(allowed)
    close = difflib.get_close_matches(str(value), names, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return UserError(f"{key} = {value!r} is unknown{hint} (allowed: {', '.join(names)})")
