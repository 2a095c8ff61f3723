"""The axes of a search's figures: scores, and the axes of the search space."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from research import formats
from research.reporting.plots import text
from research.tuning.axes import Axis
from research.tuning.reports import Objective
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, Trial

_PAD = 0.04  # of an axis, beyond its ends, so that points on them are whole


@dataclasses.dataclass(frozen=True)
class Scale:
    """Place scores on an axis; scores worse than the ceiling lie on it."""

    title: str
    tickformat: str  # in d3's notation
    log: bool
    floor: float
    ceiling: float

    def place(self, scores: Iterable[float]) -> list[float]:
        """Return where scores are drawn."""
        clipped = np.nan_to_num(np.array(list(scores), float), nan=np.inf, posinf=np.inf)
        return [float(f"{score:.5g}") for score in np.minimum(clipped, self.ceiling)]

    def transformed(self, scores: Iterable[float]) -> np.ndarray:
        """Return places on a linear axis: logarithms to base 10 if the scale is logarithmic."""
        placed = np.array(self.place(scores))
        return np.log10(placed) if self.log else placed

    @property
    def axis(self) -> dict:
        """Return the axis for Plotly."""
        ends = self.transformed([self.floor, self.ceiling])
        pad = _PAD * max(ends[1] - ends[0], 1e-9)
        axis = {
            "title": {"text": self.title},
            "tickformat": self.tickformat,
            "range": [ends[0] - pad, ends[1] + pad],
            "zeroline": False,
        }
        if self.log:
            axis["type"] = "log"
            axis["dtick"] = "D1" if ends[1] - ends[0] < 0.7 else "D2"
        return axis

    def shown(self, score: float) -> str:
        """Return a score as text."""
        if not math.isfinite(score):
            return "diverged"
        return f"{score:.2%}" if "%" in self.tickformat else f"{score:.4g}"


def scale_of(objective: Objective, scores: Iterable[float]) -> Scale:
    """Return a scale up to what nine tenths of the scores need.

    It is logarithmic if the scores are positive and far apart.

    Args:
      objective: of the search.
      scores: the scores to draw; at least one is finite.
    """
    finite = np.array([score for score in scores if math.isfinite(score)])
    low, high = finite.min(), np.quantile(finite, 0.9)
    log = bool(low > 0 and high > 3 * low)
    low_, high_ = (math.log(low), math.log(high)) if log else (low, high)
    most = high_ + (high_ - low_) / 2
    ceiling = min(float(finite.max()), math.exp(most) if log else most)
    return Scale(
        objective.title,
        ".3~%" if formats.is_share(objective.name) else "~g",
        log,
        float(low),
        float(ceiling),
    )


def last_score(trial: Trial) -> float:
    """Return the last score of a trial; inf if it diverged or has not reported yet."""
    return trial.score if trial.end != DIVERGED and math.isfinite(trial.score) else math.inf


def short_names(space: Space) -> dict[str, str]:
    """Return the last word of each key, or the key if the word is not unique or says too little."""
    words = [key.rpartition(".")[2] for key in space.keys]
    return {
        key: word if words.count(word) == 1 and word not in ("name", "names") else key
        for key, word in zip(space.keys, words, strict=True)
    }


def axis_of(axis: Axis) -> dict:
    """Return an axis of the space for Plotly, with a margin beyond its ends."""
    layout: dict[str, Any] = {"title": {"text": text(axis.key)}, "zeroline": False}
    if axis.kind == "choice":
        places = list(range(axis.count))
        layout |= {"tickvals": places, "ticktext": [_word(value) for value in axis.values]}
        return layout | {"range": [-0.5, axis.count - 0.5]}
    low, high = (math.log10(axis.low), math.log10(axis.high)) if axis.kind == "log" else (
        axis.low, axis.high)  # fmt: skip
    pad = _PAD * (high - low)
    layout["range"] = [low - pad, high + pad]
    if axis.kind == "log":
        layout |= {"type": "log", "dtick": 1 if high - low > 1.5 else "D2"}
        layout |= {"exponentformat": "power"}
    elif axis.kind == "integer" and axis.count <= 10:
        layout["dtick"] = 1
    return layout


def position(axis: Axis, value: Any) -> float:
    """Return where a value stands on the axis; a choice stands at its number."""
    return axis.values.index(value) if axis.kind == "choice" else value


def dimension(axis: Axis, trials: Sequence[Trial], name: str) -> dict:
    """Return the axis as one of parallel coordinates, which have no log scale and no gaps.

    Trials without a value on the axis stand below its end.
    """
    inactive = any(axis.key not in trial.values for trial in trials)
    if axis.kind == "choice":
        ticks = {float(place): _word(value) for place, value in enumerate(axis.values)}
    elif axis.kind == "log":
        ticks = _decades(axis.low, axis.high)
    else:
        ticks = even_ticks(axis.low, axis.high)
    low, high = min(ticks), max(ticks)
    width = high - low or 1.0
    missing = low - width / 8
    if inactive:
        ticks = {missing: "not there", **ticks}

    def place(trial: Trial) -> float:
        if axis.key not in trial.values:
            return missing
        value = position(axis, trial.values[axis.key])
        return math.log10(value) if axis.kind == "log" else value

    return {
        "label": text(name),
        "values": [round(place(trial), 6) for trial in trials],
        "range": [missing if inactive else low, high],
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


def even_ticks(low: float, high: float) -> dict[float, str]:
    """Return labels by place: both ends, and round numbers between them that leave room."""
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))
    rounds = (round(n * step, 12) for n in range(math.ceil(low / step), int(high // step) + 1))
    return _with_room(low, high, rounds, lambda x: f"{x:.4g}")


def _decades(low: float, high: float) -> dict[float, str]:
    """Return labels by place on a log axis: both ends, and powers of ten between them."""
    low, high = math.log10(low), math.log10(high)
    step = max(1, math.ceil((high - low) / 8))
    powers = range(math.ceil(low), math.floor(high) + 1, step)
    return _with_room(low, high, map(float, powers), lambda x: _power(10**x))


def _with_room(
    low: float, high: float, between: Iterable[float], label: Callable[[float], str]
) -> dict[float, str]:
    room = (high - low) / 12
    kept = [place for place in between if low + room < place < high - room]
    return {float(place): label(place) for place in (low, *kept, high)}


def _power(value: float) -> str:
    shown = f"{value:.3g}"
    mantissa, _, power = shown.partition("e")
    return f"{mantissa}e{int(power)}" if power else shown


def _word(value: Any) -> str:
    word = value if isinstance(value, str) else repr(value)
    return text(word if len(word) <= 20 else word[:19] + "\u2026")
