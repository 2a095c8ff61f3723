"""Report mistakes of the user in one line that says what to do next."""

import difflib
from collections.abc import Iterable, Sequence

LISTED = 20  # names that a message holds


class UserError(Exception):
    """A mistake of the user. Entry points print it as one line on stderr and exit with code 2."""


def unknown_name(key: str, value: object, allowed: Iterable[str]) -> UserError:
    """Return the error for an unknown name: the key, the value, the closest and all names."""
    names = sorted(allowed)
    close = closest(str(value), names)
    hint = f"; did you mean {close!r}?" if close else ""
    return UserError(f"{key} = {value!r} is unknown{hint} (allowed: {', '.join(names)})")


def listed(names: Sequence[object]) -> str:
    """Return names for a message; of many, the first ones and how many there are."""
    more = f", ... ({len(names)} in all)" if len(names) > LISTED else ""
    words = [" ".join(str(name).split()) for name in names[:LISTED]]
    return (", ".join(words) or "none") + more


def closest(name: str, names: list[str]) -> str | None:
    """Return the name that was meant, by initials ('optimizer.lr') or letters; None if none is."""
    abbreviated = [full for full in names if _abbreviation(full) == name]
    close = abbreviated or difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return close[0] if close else None


def _abbreviation(name: str) -> str:
    section, dot, last = name.rpartition(".")
    return section + dot + "".join(word[:1] for word in last.split("_"))
