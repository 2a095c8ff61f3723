"""Spaces: the axes of a search, and which values share a program.

An axis is a plain tuple, so that it stands in a config, in JSON and on the command line:

    config.search.space = (
        log("optimizer.learning_rate", 1e-4, 1e-1),
        choice("optimizer.name", "adam", "nesterov"),
        linear("optimizer.momentum", 0.5, 0.99, when=("optimizer.name", "nesterov")),
    )

Samplers see the unit cube: each axis is [0, 1] on its own scale, and values that can be counted
have equal shares of it.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from ml_collections import ConfigDict

from research.config import TRACED, flatten, unknown_key, usage
from research.errors import UserError, unknown_name
from research.tuning.axes import (
    OFF_AT_ZERO,
    Axis,
    check_values,
    choice,
    integer,
    linear,
    log,
    parsed,
)

__all__ = ["Space", "choice", "integer", "linear", "log"]

_MANY = 1000  # programs; more are refused by `search.max_programs`
_OFF = {"optimizer.layer_decay": 1.0}  # what leaves a number out of the program; others: 0
# What a search must not vary, and what it is for instead.
_REFUSED = {
    "seed": "config.search.seeds trains each trial from several",
    "duration": "a part of the training is given by the method or the scheduler",
    "data": "scores of other data do not compare",
    "log_every": "it changes no score",
    "evaluate_every": "it changes no score",
    "checkpoint": "it changes no score",
    "on_divergence": "a trial that diverges ends",
    "max_rollbacks": "a trial that diverges ends",
    "early_stopping": "config.search.scheduler stops trials",
    "ensemble": "trials themselves are trained side by side",
    "parallel": "trials themselves are spread over devices",
}


@dataclasses.dataclass(frozen=True)
class Space:
    """The axes of a search, in order; a condition stands behind the choice it names."""

    axes: tuple[Axis, ...]

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Space":
        """Parse and check `config.search.space`.

        Args:
          config: a whole training config with a section `search`.

        Raises:
          UserError: an axis that cannot be, a key that does not exist or must not be searched, a
            value that the key cannot have.
        """
        plain = ConfigDict({key: config[key] for key in config if key != "search"})
        if not isinstance(config.search.space, tuple) or not config.search.space:
            raise UserError(
                f"config.search.space = {config.search.space!r} has no axes "
                "(allowed: a tuple of linear(...), log(...), integer(...), choice(...))"
            )
        space = cls(tuple(map(parsed, config.search.space)))
        earlier: dict[str, Axis] = {}
        for axis in space.axes:
            _check_key(axis, plain, earlier)
            _check_condition(axis, earlier)
            earlier[axis.key] = axis
        for axis in space.axes:
            check_values(axis, plain)
            _check_cost(axis, space)
        _check_effects(space, config)
        return space

    @property
    def size(self) -> int:
        """The number of axes."""
        return len(self.axes)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the config, in the order of the axes."""
        return tuple(axis.key for axis in self.axes)

    def decode(self, unit: np.ndarray) -> dict[str, Any]:
        """Return the values at a point of the unit cube (size,), without inactive axes."""
        values: dict[str, Any] = {}
        for axis, place in zip(self.axes, unit, strict=True):
            if axis.is_met(values):
                values[axis.key] = axis.decode(place)
        return values

    def encode(self, values: dict[str, Any]) -> np.ndarray:
        """Return the point of the unit cube, float64 (size,); inactive axes lie at 0.5."""
        return np.array(
            [axis.encode(values[axis.key]) if axis.key in values else 0.5 for axis in self.axes]
        )

    def active(self, values: dict[str, Any]) -> np.ndarray:
        """Which axes the values have a place on: bool (size,)."""
        return np.array([axis.key in values for axis in self.axes], bool)

    @property
    def points(self) -> float:
        """Return the number of points; infinite where an axis is continuous."""
        return _combinations(list(self.axes), {})

    def gridded(self, points: int) -> "Space":
        """Return the space of a full factorial: `points` values of each number, all of a choice."""
        return Space(
            tuple(
                dataclasses.replace(axis, kind="choice", values=tuple(axis.spread(points)))
                for axis in self.axes
            )
        )

    def one_of_each_program(self) -> Iterator[dict[str, Any]]:
        """Values for each program, as many as `programs` counts: in the middle of numbers."""

        def spread(axis: Axis) -> list:
            return [axis.decode(0.5)] if self.is_traced(axis.key) else axis.spread(axis.count)

        return _extended({}, self.axes, spread)

    def holds(self, values: dict[str, Any]) -> bool:
        """Whether all values are on their axes."""
        return all(axis.holds(values[axis.key]) for axis in self.axes if axis.key in values)

    def check(self, values: dict[str, Any], origin: str) -> None:
        """Refuses values given by hand that are no point of the space.

        Raises:
          UserError: it names the key, and `origin`, where the values stand.
        """
        for key in values:
            if key not in self.keys:
                raise unknown_name(origin, key, self.keys)
        for axis in self.axes:
            if not axis.is_met(values):
                if axis.key in values:
                    raise UserError(f"{origin}: {axis.key} is given, and {_condition(axis)} is not")
            elif axis.key not in values:
                raise UserError(f"{origin}: {axis.key} is missing (allowed: {axis.range})")
            elif not axis.holds(values[axis.key]):
                raise UserError(
                    f"{origin}: {axis.key} = {values[axis.key]!r} is not on its axis "
                    f"(allowed: {axis.range})"
                )

    def is_traced(self, key: str) -> bool:
        """Whether all values of the axis share a program.

        They do where the key is a traced number. What other axes depend on does not: within one
        program each axis is active, or is not. Nor does a choice of whether to clip.
        """
        axis = self.axes[self.keys.index(key)]
        return (
            key in TRACED
            and not any(other.when[:1] == (key,) for other in self.axes)
            and not (key in OFF_AT_ZERO and axis.kind == "choice" and 0 in axis.values)
        )

    def static(self, values: dict[str, Any]) -> dict[str, Any]:
        """Those of the values that decide which program trains them."""
        return {key: value for key, value in values.items() if not self.is_traced(key)}

    def traced(self, values: dict[str, Any]) -> dict[str, float]:
        """Those of the values that are numbers in the program."""
        return {key: float(value) for key, value in values.items() if self.is_traced(key)}

    def program(self, config: ConfigDict, values: dict[str, Any]) -> ConfigDict:
        """Return the training config of the program that trains these values.

        It is the same for all values with the same `static` part. Traced axes stand at some value
        of theirs that is not "off", for else they would be left out of the program. Axes without
        effect in this program stand at the value of the config.
        """
        given = ConfigDict({key: config[key] for key in config if key != "search"})
        built = given.copy_and_resolve_references()
        built.update_from_flattened_dict(self.static(values))
        idle = usage.idle(flatten(built))
        for axis in self.axes:
            if axis.key in values and axis.key not in idle:
                value = _on(axis) if self.is_traced(axis.key) else values[axis.key]
                built.update_from_flattened_dict({axis.key: value})
        return built

    def programs(self) -> int:
        """How many programs there are: combinations of static values."""
        return _combinations([axis for axis in self.axes if not self.is_traced(axis.key)], {})


def _extended(
    values: dict[str, Any], axes: tuple[Axis, ...], spread: Callable[[Axis], list]
) -> Iterator[dict[str, Any]]:
    """All combinations of these values with those that each axis is spread over, lazily."""
    if not axes:
        yield values
    elif not axes[0].is_met(values):
        yield from _extended(values, axes[1:], spread)
    else:
        for value in spread(axes[0]):
            yield from _extended({**values, axes[0].key: value}, axes[1:], spread)


def _on(axis: Axis) -> Any:
    places = ((index + 0.5) / axis.count for index in range(axis.count)) if axis.count else ()
    off = _OFF.get(axis.key, 0.0)
    return next((axis.decode(u) for u in (0.5, 0.25, *places) if axis.decode(u) != off), off)


def _combinations(axes: list[Axis], values: dict[str, Any]) -> int:
    """Count without listing them: an integer axis may have a million values."""
    if not axes:
        return 1
    axis, *rest = axes
    if not axis.is_met(values):
        return _combinations(rest, values)
    if any(other.when[:1] == (axis.key,) for other in rest):
        return sum(_combinations(rest, {**values, axis.key: value}) for value in axis.values)
    return (axis.count or math.inf) * _combinations(rest, values)


def _check_effects(space: Space, config: ConfigDict) -> None:
    """Refuse an axis whose key has no effect in any of the programs in which it is active."""
    without: dict[str, str] = {}
    for values in itertools.islice(space.one_of_each_program(), _MANY):
        if len(without) == space.size and not any(without.values()):
            return
        trial = ConfigDict({key: config[key] for key in config if key != "search"})
        trial = trial.copy_and_resolve_references()
        trial.update_from_flattened_dict(values)
        idle, given = usage.idle(flatten(trial)), flatten(trial)
        for key in values:
            if key not in idle:
                without[key] = ""
            elif key not in without:
                choice, users = idle[key]
                without[key] = (
                    f"config.search.space: {key} has no effect with config.{choice} = "
                    f"{given[choice]!r} (used by: {', '.join(users)})"
                )
    for message in filter(None, without.values()):
        raise UserError(message)


def _condition(axis: Axis) -> str:
    return f"{axis.when[0]} = {axis.when[1]!r}"


def _check_key(axis: Axis, config: ConfigDict, earlier: dict[str, Axis]) -> None:
    section = axis.key.partition(".")[0]
    for refused in (axis.key, section):
        if refused in _REFUSED:
            raise UserError(
                f"config.search.space: {axis.key} is not searched: {_REFUSED[refused]} "
                "(allowed: keys of what is trained and how)"
            )
    keys = flatten(config)
    if axis.key not in keys:
        raise unknown_key("config.search.space", axis.key, set(keys) - set(_REFUSED))
    if axis.key in earlier:
        raise UserError(f"config.search.space: {axis.key} stands there twice (allowed: once)")


def _check_condition(axis: Axis, earlier: dict[str, Axis]) -> None:
    if not axis.when:
        return
    key, value = axis.when
    choices = {name: other for name, other in earlier.items() if other.kind == "choice"}
    origin = f"config.search.space: {axis.key} depends on a choice before it, and"
    if key not in choices:
        raise unknown_name(origin, key, choices)
    if value not in choices[key].values:
        raise UserError(f"{origin} {key} = {value!r} is none (allowed: {choices[key].range})")


def _check_cost(axis: Axis, space: Space) -> None:
    if not axis.count and not space.is_traced(axis.key):
        raise UserError(
            f"config.search.space: {axis.key} decides the program, and each of its values would "
            "be compiled (allowed: choice, or integer)"
        )
