"""Describe what one key of the config may be."""

import dataclasses
import math
from typing import Any

from ml_collections import ConfigDict, config_dict

from research.config.duration import Duration
from research.errors import UserError, unknown_name

LARGEST_FLOAT32 = 2.0**128 - 2.0**104  # a larger number is infinite in the program
ANY = (-math.inf, math.inf)
AT_LEAST_0 = (0, math.inf)
BELOW_1 = (0, 1)
COUNT = (1, 2**31)
COUNT_OR_0 = (0, 2**31)


@dataclasses.dataclass(frozen=True, eq=False)
class Key:
    """The declaration of one key: default, allowed values, and meaning.

    One of `range`, `choices`, `choices_in`, `duration`, `pairs`, `form` and `options` says which
    values are allowed. A key with none of them takes a truth value, text, or a tuple of patterns,
    as its default is.

    Attributes:
      default: the value in `default_config()`; None for text that need not be given.
      meaning: what the key does, in one English sentence, with the paper where there is one.
      range: numbers are allowed with `range[0] <= number < range[1]`.
      choices: the allowed words that stand for no function; beside `choices_in` such a word, as
        'auto', leaves the choice to the program.
      choices_in: the module whose public functions are the allowed names; a package if its modules
        with a function `build` are. A dotted name of the user's own code is allowed too.
      duration: whether the value is a duration, such as '10 epochs'.
      interval: whether that duration must be above 0.
      pairs: an example, for a tuple of pairs (pattern, value).
      second: what the second of such a pair is: 'number', 'duration' or 'text'.
      form: for values that are checked elsewhere, what they look like.
      options: whether the key is a section of its own, of keyword arguments for the objects of
        the user's own that the keys beside it name.
      traced: whether the value is a number in the compiled program, so that it may change without
        a new compilation, and when a run is resumed.
      resumable: whether a resumed run may change it though it is not traced.
      location: whether it says where the data are; a resumed run may change that for equal data.
      automatic: a value that means 'choose from the data'; None if there is none.
      shared: whether the key has an effect under every choice, although functions take it by name.
    """

    default: Any
    meaning: str
    _: dataclasses.KW_ONLY
    range: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    choices_in: str = ""
    duration: bool = False
    interval: bool = False
    pairs: str = ""
    second: str = "text"
    form: str = ""
    options: bool = False
    traced: bool = False
    resumable: bool = False
    location: bool = False
    automatic: Any = None
    shared: bool = False

    def initial(self) -> Any:
        """Return the value that `default_config()` starts with."""
        if self.options:
            return ConfigDict()
        return config_dict.placeholder(str) if self.default is None else self.default

    def check(self, key: str, value: Any) -> None:
        """Refuse a value that the key cannot have.

        Raises:
          UserError: the line names the key, the value and what is allowed.
        """
        self._check_type(key, value)
        if self.automatic is not None and value == self.automatic:
            return
        if self.range:
            for number in value if isinstance(value, tuple) else (value,):
                self._check_number(key, value, number)
        if self.choices and not self.choices_in and value not in self.choices:
            raise unknown_name(f"config.{key}", value, self.choices)
        if self.duration:
            for text in value if isinstance(value, tuple) else (value,):
                self._check_duration(key, text)
        if self.pairs:
            self._check_pairs(key, value)

    def accepted(self) -> str:
        """Return the allowed values in Markdown, but for names of functions."""
        several = isinstance(self.default, tuple)
        if self.choices:
            return ", ".join(f"`{name}`" for name in self.choices)
        if self.form:
            return self.form
        if self.pairs:
            return f"pairs, as `{self.pairs}`"
        if self.duration:
            return ("durations" if several else "a duration") + " above 0" * self.interval
        if self.options:
            return "keyword arguments"
        if isinstance(self.default, bool):
            return "`True`, `False`"
        if self.range:
            whole = ("whole numbers, " if several else "a whole number, ") * self._whole
            return whole + interval(*self.range)
        return "patterns" if several else "text"

    @property
    def _whole(self) -> bool:
        """Return whether numbers must be whole, as the default is."""
        return isinstance(self.default[0] if isinstance(self.default, tuple) else self.default, int)

    def _check_type(self, key: str, value: Any) -> None:
        if isinstance(self.default, tuple) and not isinstance(value, tuple):
            raise UserError(f"config.{key} = {value!r} is not a tuple")
        if isinstance(self.default, str) and not isinstance(value, str) and not self.duration:
            raise UserError(f"config.{key} = {value!r} is not words")

    def _check_number(self, key: str, value: Any, number: Any) -> None:
        kinds, wanted = ((int,), "a whole number") if self._whole else ((int, float), "a number")
        if not isinstance(number, kinds) or isinstance(number, bool):
            raise UserError(f"config.{key} = {value!r} is not {wanted}")
        low, high = self.range
        finite = abs(number) <= LARGEST_FLOAT32
        if not (low <= number < high and finite):
            allowed = interval(low, high) + ("" if finite else ", and finite in float32")
            raise UserError(f"config.{key} = {value!r} is out of range (allowed: {allowed})")

    def _check_duration(self, key: str, text: Any) -> None:
        if not Duration.parse(text, key).amount and self.interval:
            raise UserError(f"config.{key} = {text!r} is no interval (allowed: more than 0)")

    def _check_pairs(self, key: str, value: tuple) -> None:
        for pair in value:
            if not isinstance(pair, tuple) or len(pair) != 2 or not isinstance(pair[0], str):
                raise UserError(
                    f"config.{key} = {value!r} is no tuple of pairs (allowed: {self.pairs})"
                )
            second = pair[1]
            if self.second == "duration":
                Duration.parse(second, key)
            is_number = isinstance(second, (int, float)) and not isinstance(second, bool)
            if self.second == "number" and not (is_number and second >= 0):
                raise UserError(f"config.{key}: {second!r} is no number (allowed: at least 0)")


def interval(low: float, high: float) -> str:
    """Return the range low <= value < high in words, such as 'at least 0 and below 2^31'."""
    if high == math.inf:
        return "any finite number" if low == -math.inf else f"at least {low:g}"
    large = math.log2(high) if high > 2**10 else 0.5
    return f"at least {low:g} and below " + (f"2^{large:g}" if large.is_integer() else f"{high:g}")


def options() -> Key:
    """Return the declaration of a section's keyword arguments for the user's own objects."""
    return Key(
        {},
        "Keyword arguments for those functions and classes of your own that this section names.",
        options=True,
    )
