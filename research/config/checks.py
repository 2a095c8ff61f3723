"""Refuses configs that cannot be, each mistake in a line."""

import math
from typing import Any

from ml_collections import ConfigDict

from research.config.automatic import AUTOMATIC
from research.config.defaults import default_config
from research.config.duration import Duration
from research.config.limits import CHOICES, DURATIONS, LIMITS, PAIRS, TRACED
from research.config.serialization import flatten
from research.errors import UserError, unknown_name

_LARGEST_FLOAT32 = 2.0**128 - 2.0**104  # programs take numbers as such: what is more is infinite


def check_config(config: ConfigDict) -> None:
    """Refuses what can be refused before any work is done.

    Raises:
      UserError: a key that does not exist, a wrong type, or a value out of its range.
    """
    values = flatten(config)
    check_values(values, flatten(default_config()), {**LIMITS, **TRACED}, CHOICES, DURATIONS)
    for key, example in PAIRS.items():
        for pair in values[key]:
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                raise UserError(
                    f"config.{key} = {values[key]!r} is no tuple of pairs (allowed: {example})"
                )
    for key in ("optimizer.multipliers", "optimizer.decay_multipliers"):
        for _, number in values[key]:
            if isinstance(number, bool) or not isinstance(number, (int, float)) or not number >= 0:
                raise UserError(f"config.{key}: {number!r} is no number (allowed: at least 0)")
    for _, duration in values["transfer.freeze"]:
        Duration.parse(duration, "transfer.freeze")
    for key in (*DURATIONS, "schedule.milestones"):
        for text in values[key] if isinstance(values[key], tuple) else (values[key],):
            if text == AUTOMATIC.get(key):
                continue
            duration = Duration.parse(text, key)
            if key.endswith("every") and not duration.amount:
                raise UserError(f"config.{key} = {text!r} is no interval (allowed: more than 0)")
    if config.data.path and config.data.name == "digits":  # the default: forgotten, most likely
        raise UserError(
            f"config.data.path = {config.data.path!r} is not read by config.data.name = 'digits' "
            "(allowed: npz, csv, folder, text)"
        )


def check_values(
    values: dict[str, Any],
    defaults: dict[str, Any],
    limits: dict[str, tuple[float, float]],
    choices: dict[str, tuple[str, ...]],
    durations: tuple[str, ...] = (),
) -> None:
    """Refuses keys that do not exist or are missing, wrong types, and values out of their range.

    Args:
      values: by dotted key; as `defaults`.
      defaults: of all keys that there are.
      limits: low <= value < high.
      choices: words that are allowed, for keys that stand for no function.
      durations: keys whose values are words or bare numbers.
    """
    for key in values:
        if key not in defaults:
            raise unknown_name("config", key, defaults)
    for key, default in defaults.items():
        if key not in values:
            raise UserError(f"config.{key} is missing: start from default_config()")
        if isinstance(default, (str, tuple)) and not isinstance(values[key], type(default)):
            wanted = "words" if isinstance(default, str) else "a tuple"
            if key not in durations:
                raise UserError(f"config.{key} = {values[key]!r} is not {wanted}")
    for key, (low, high) in limits.items():
        value, default = values[key], defaults[key]
        sample = default[0] if isinstance(default, tuple) else default
        kinds = (int,) if isinstance(sample, int) else (int, float)
        for number in value if isinstance(value, tuple) else (value,):
            if not isinstance(number, kinds) or isinstance(number, bool):
                wanted = "a whole number" if kinds == (int,) else "a number"
                raise UserError(f"config.{key} = {value!r} is not {wanted}")
            finite = abs(number) <= _LARGEST_FLOAT32
            if not (low <= number < high and finite):
                allowed = interval(low, high) + ("" if finite else ", and finite in float32")
                raise UserError(f"config.{key} = {value!r} is out of range (allowed: {allowed})")
    for key, allowed in choices.items():
        if values[key] not in allowed:
            raise unknown_name(f"config.{key}", values[key], allowed)


def interval(low: float, high: float) -> str:
    """The range low <= value < high in words, such as 'at least 0 and below 2^31'."""
    if high == math.inf:
        return "any finite number" if low == -math.inf else f"at least {low:g}"
    large = math.log2(high) if high > 2**10 else 0.5
    return f"at least {low:g} and below " + (f"2^{large:g}" if large.is_integer() else f"{high:g}")
