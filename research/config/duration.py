"""Durations: numbers of steps, epochs, examples or percent."""

import dataclasses
import math
import re

from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Duration:
    """A length of training as the user wrote it: a number and its unit."""

    amount: float
    unit: str  # steps, epochs, examples or percent

    _PATTERN = re.compile(
        r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*(steps?|epochs?|examples?|percent|%)?\s*"
    )

    @classmethod
    def parse(cls, text: str, key: str) -> "Duration":
        """Read '10 epochs', '500 steps', '500', '20000 examples', '5 percent' or '5%'."""
        match = cls._PATTERN.fullmatch(str(text))
        try:
            amount = float(match[1])
            if math.isinf(amount):
                raise ValueError("too large")
        except (TypeError, ValueError):
            raise UserError(
                f"config.{key} = {text!r} is not a duration (allowed: a number and one of "
                "steps, epochs, examples, percent, as in '10 epochs')"
            ) from None
        unit = (match[2] or "steps").replace("%", "percent").rstrip("s")
        return cls(amount, unit if unit == "percent" else unit + "s")

    def steps(self, *, batch_size: int, examples: int, total_steps: int | None = None) -> float:
        """Return the duration in steps, not rounded: an epoch need not be whole steps."""
        steps_of = {
            "steps": 1.0,
            "epochs": examples / batch_size,
            "examples": 1 / batch_size,
            "percent": (total_steps or 0) / 100,
        }
        return self.amount * steps_of[self.unit]
