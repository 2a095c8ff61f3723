"""Format metrics: decide which are shares, shown in percent, and which need a log axis."""

import re
from collections.abc import Iterable
from datetime import timedelta

# Of names like 'balanced_accuracy', 'macro_f1', 'mean_average_precision', 'top5'.
_SHARES = re.compile(r"(accuracy|precision|recall|f1|top_?\d+|ece|share)$")
_MORE_IS_BETTER = re.compile(r"(accuracy|precision|recall|f1|top_?\d+|r2)$")
_LESS_IS_BETTER = re.compile(r"(loss|error|mse|mae|perplexity|ece|bits_per_character)$")
_LOGARITHMIC = re.compile(r"(loss|mse|mae|perplexity)$")


def is_share(metric: str, values: Iterable[float | None] = ()) -> bool:
    """Return whether a metric is shown in percent: by its name, if all values are in [0, 1]."""
    return bool(_SHARES.search(metric)) and all(0 <= v <= 1 for v in values if v is not None)


def is_logarithmic(metric: str, values: Iterable[float]) -> bool:
    """Return whether a metric is drawn on a log axis: a loss or an error that is positive."""
    return bool(_LOGARITHMIC.search(metric)) and min(values, default=0) > 0


def higher_is_better(metric: str) -> bool | None:
    """Return which values of a metric are the better ones; None if its name does not tell."""
    if _MORE_IS_BETTER.search(metric):
        return True
    return False if _LESS_IS_BETTER.search(metric) else None


def words(metric: str) -> str:
    """Return a metric's name in words."""
    return metric.replace("_", " ")


def shown(metric: str, value: float | None) -> str:
    """Return a metric's value as text; '' for None."""
    return percent(value) if is_share(metric, [value]) else number(value)


def percent(value: float | None) -> str:
    """Return a share as text; '' for None."""
    return "" if value is None else f"{value:.2%}"


def number(value: float | None) -> str:
    """Return a number as text, to four digits; '' for None."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Return a time as text."""
    return f"{seconds:.1f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))
