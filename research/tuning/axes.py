"""Axes: a key of the config, what it may be, and on which scale."""

import dataclasses
import math
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from research.config import AUTOMATIC, check_config, flatten, tuples
from research.errors import UserError, unknown_name

# Their 0 in the config means "off"; as a traced number it would cut everything down to 0.
OFF_AT_ZERO = (
    "optimizer.clip_value",
    "optimizer.clip_norm",
    "optimizer.clip_adaptive",
    "optimizer.max_norm",
)


def linear(key: str, low: float, high: float, when: tuple = ()) -> tuple:
    """Numbers from low to high, both allowed. `when=(key, value)`: only where that choice fell."""
    return ("linear", key, low, high, when)


def log(key: str, low: float, high: float, when: tuple = ()) -> tuple:
    """Numbers from low to high, uniform in their logarithm."""
    return ("log", key, low, high, when)


def integer(key: str, low: int, high: int, when: tuple = ()) -> tuple:
    """Whole numbers from low to high, both allowed."""
    return ("integer", key, low, high, when)


def choice(key: str, *values: Any, when: tuple = ()) -> tuple:
    """One of the values: words, numbers, switches, or tuples such as `model.hidden`."""
    return ("choice", key, values, when)


def trained(value: Any) -> Any:
    """Return what a program gets of a value: a number in single precision, all else as it is."""
    with np.errstate(over="ignore"):
        return float(np.float32(value)) if isinstance(value, float) else value


@dataclasses.dataclass(frozen=True)
class Axis:
    """One key and what it may be; a choice has `values`, all others have `low` and `high`."""

    kind: str
    key: str
    low: float = 0
    high: float = 0
    values: tuple = ()
    when: tuple = ()  # (), or key and value of a choice

    @property
    def count(self) -> int:
        """How many values there are; 0: a continuum."""
        if self.kind == "choice":
            return len(self.values)
        return self.high - self.low + 1 if self.kind == "integer" else 0

    @property
    def range(self) -> str:
        """What there is on it, for messages."""
        if self.kind == "choice":
            return ", ".join(map(repr, self.values))
        return f"{'whole numbers ' * (self.kind == 'integer')}{self.low:g} to {self.high:g}"

    def decode(self, unit: float) -> Any:
        """Return the value at a place in [0, 1]."""
        unit = min(max(float(unit), 0.0), 1.0)
        if self.count:
            index = min(int(unit * self.count), self.count - 1)
            return self.values[index] if self.kind == "choice" else self.low + index
        if unit in (0, 1):  # the ends themselves, whatever rounding does
            return float(self.high if unit else self.low)
        if self.kind == "log":
            value = self.low * math.exp(unit * math.log(self.high / self.low))
        else:
            value = self.low + unit * (self.high - self.low)
        return float(min(max(value, self.low), self.high))

    def encode(self, value: Any) -> float:
        """Return the place of a value; the middle of its share where values can be counted."""
        if self.kind == "choice":
            return (self.values.index(value) + 0.5) / self.count
        if self.kind == "integer":
            return (value - self.low + 0.5) / self.count
        if self.kind == "log":
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def spread(self, points: int) -> list:
        """Return `points` values, even on its scale, with both ends; all of a choice.

        A single value is the middle. Values that are equal in single precision are one value.
        """
        if self.kind == "choice":
            return list(self.values)
        if self.count:
            if points >= self.count:
                return list(range(self.low, self.high + 1))
            if points == 1:
                return [(self.low + self.high) // 2]
            return [int(value) for value in np.round(np.linspace(self.low, self.high, points))]
        places = np.linspace(0, 1, points) if points > 1 else [0.5]
        values = [self.decode(place) for place in places]
        return list({trained(value): value for value in values}.values())

    def is_met(self, values: dict[str, Any]) -> bool:
        """Whether its condition is, by the values of the axes before it."""
        return not self.when or (self.when[0] in values and values[self.when[0]] == self.when[1])

    def holds(self, value: Any) -> bool:
        """Whether the axis has this value."""
        if self.kind == "choice":
            return any(value == one and type(value) is type(one) for one in self.values)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return False
        whole = self.kind != "integer" or isinstance(value, int)
        return whole and self.low <= value <= self.high


_FORMS = {
    "linear": "linear(key, low, high, when=(key, value))",
    "log": "log(key, low, high, when=(key, value))",
    "integer": "integer(key, low, high, when=(key, value))",
    "choice": "choice(key, value, value, ..., when=(key, value))",
}


def parsed(given: Any) -> Axis:
    """Return the axis that a tuple stands for.

    Raises:
      UserError: it stands for none.
    """
    given = tuples(given)
    if not isinstance(given, tuple) or not given or not isinstance(given[0], str):
        raise UserError(
            f"config.search.space: {given!r} is no axis (allowed: {', '.join(_FORMS.values())})"
        )
    if given[0] not in _FORMS:
        raise unknown_name("config.search.space: an axis", given[0], _FORMS)
    kind, *rest = given
    *ends, when = rest if rest else [()]
    if (
        len(rest) != (3 if kind == "choice" else 4)
        or not isinstance(rest[0], str)
        or not isinstance(when, tuple)
        or len(when) not in (0, 2)
        or not isinstance(when[0] if when else "", str)
        or (kind == "choice" and not isinstance(ends[1], tuple))
    ):
        raise UserError(f"config.search.space: {given!r} is no axis (allowed: {_FORMS[kind]})")
    if kind == "choice":
        return Axis(kind, rest[0], values=ends[1], when=when)
    return Axis(kind, rest[0], low=ends[1], high=ends[2], when=when)


def check_values(axis: Axis, config: ConfigDict) -> None:
    """Refuses an axis without values, and values that its key cannot have.

    Raises:
      UserError: it says which, and what is allowed.
    """
    origin = f"config.search.space: {axis.key}"
    if axis.kind == "choice":
        if not axis.values:
            raise UserError(f"{origin} has no values (allowed: choice(key, value, value, ...))")
        if any(value in axis.values[:index] for index, value in enumerate(axis.values)):
            raise UserError(f"{origin}: {axis.values!r} has a value twice (allowed: once)")
    else:
        whole = axis.kind == "integer"
        kinds, wanted = ((int,), "whole numbers") if whole else ((int, float), "numbers")
        ends = (axis.low, axis.high)
        if not all(isinstance(end, kinds) and not isinstance(end, bool) for end in ends):
            raise UserError(f"{origin}: {axis.low!r} to {axis.high!r} are not {wanted}")
        if not all(map(math.isfinite, ends)) or not axis.low < axis.high:
            raise UserError(
                f"{origin}: {axis.low!r} to {axis.high!r} is empty (allowed: low < high, finite)"
            )
        if axis.kind == "log" and axis.low <= 0:
            raise UserError(
                f"{origin}: a log axis from {axis.low!r} goes through zero (allowed: low > 0)"
            )
        if axis.key in OFF_AT_ZERO and axis.low <= 0:
            raise UserError(
                f"{origin}: 0 switches it off, which is no small value (allowed: low > 0, or a "
                "choice of numbers)"
            )
    for value in axis.values or (axis.low, axis.high):
        if axis.key in AUTOMATIC and value == AUTOMATIC[axis.key]:
            raise UserError(
                f"{origin}: {axis.key} = {value!r} follows the data, and is no value to be tried "
                "(allowed: numbers above it)"
            )
        trial = config.copy_and_resolve_references()
        try:
            trial.update_from_flattened_dict({axis.key: value})
        except TypeError:
            raise UserError(
                f"{origin} = {value!r} is of another kind than {flatten(config)[axis.key]!r}"
            ) from None
        try:
            check_config(trial)
            if axis.kind == "choice":
                from research.training.checks import check_names  # imports jax

                check_names(trial)
        except UserError as error:
            raise UserError(f"config.search.space: {error}") from None
