"""Coarse to fine: the rounds of a search, and the box that each looks at."""

import dataclasses
import functools
import itertools
import math
from collections.abc import Sequence

from research.tuning.axes import Axis
from research.tuning.history import best
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Trial

_BORDER = 0.05  # of a box's width, from its border: what lies there lies on the border


@dataclasses.dataclass(frozen=True)
class Round:
    """One round: where it looked, and what it found."""

    number: int  # from 0
    space: Space  # with axes as narrow as its box; choices stay whole
    share: float  # of the duration, that its trials train for
    trials: Sequence[Trial]  # so far
    left: float  # how many more trials belong to it; infinite in the last
    best: Trial | None  # so far
    borders: dict[str, str]  # key -> 'lower' or 'upper': where the best lies on a border
    edges: tuple[str, ...]  # of those keys: where the space itself ends there

    @property
    def box(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value by key, of all axes but choices."""
        axes = (axis for axis in self.space.axes if axis.kind != "choice")
        return {axis.key: (axis.low, axis.high) for axis in axes}

    @property
    def over(self) -> bool:
        """Whether its last trial has ended."""
        return not self.left and all(trial.end != RUNNING for trial in self.trials)

    def warnings(self) -> list[str]:
        """A line for each border that the best lies on."""
        lines = []
        for key, side in self.borders.items():
            low, high = self.box[key]
            if key in self.edges:
                then = "the space ends there: a wider axis may hold better values"
            elif math.isinf(self.left):
                then = "no round follows: one more may find better values"
            else:
                then = "the next box reaches past it"
            lines.append(
                f"round {self.number + 1}: the best trial, {self.best.number}, lies on the {side} "
                f"border of {key} ({self.best.values[key]:.4g} in {low:.4g} to {high:.4g}); {then}"
            )
        return lines


def rounds_of(
    space: Space,
    trials: Sequence[Trial],
    *,
    round_method: functools.partial,
    rounds: int,
    round_trials: int,
    round_shares: tuple[float, ...],
    shrink: float,
) -> list[Round]:
    """The rounds that a search has begun, in order.

    A box has `shrink` times the width of the one before, on the scale of each axis, and the best
    trial of that round in its middle; it is moved where the space ends, and may reach past the
    border of the box before, when the best lies there. The box stays where no trial has a score.

    Args:
      space: the whole space.
      trials: the history, by number.
      round_method: the method within a round, bound to its numbers.
      rounds, round_trials, round_shares, shrink: as in `config.search`.
    """
    found: list[Round] = []
    box, first = space, 0
    for number in range(rounds):
        size = _size(box, round_method, round_trials)
        last = number == rounds - 1
        members = trials[first:] if last else trials[first : first + size]
        winner = best(members)
        borders = _borders(box, winner)
        ends = {axis.key: axis for axis in space.axes}
        now = {axis.key: axis for axis in box.axes}
        edges = tuple(
            key
            for key, side in borders.items()
            if (
                now[key].low == ends[key].low
                if side == "lower"
                else now[key].high == ends[key].high
            )
        )
        left = math.inf if last else size - len(members)
        found.append(
            Round(number, box, round_shares[number], members, left, winner, borders, edges)
        )
        if not found[-1].over:
            break
        box, first = narrowed(box, space, winner, shrink), first + size
    return found


def _size(box: Space, method: functools.partial, most: int) -> int:
    """A grid may come to its end before a round does."""
    points = method.keywords.get("grid_points")
    return most if points is None else sum(1 for _ in itertools.islice(box.grid(points), most))


def narrowed(box: Space, space: Space, winner: Trial | None, shrink: float) -> Space:
    """The next box: `shrink` times as wide, around the values of a trial, inside the space."""
    if winner is None:
        return box
    whole = {axis.key: axis for axis in space.axes}
    return Space(
        tuple(
            _narrowed(axis, whole[axis.key], winner.values[axis.key], shrink)
            if axis.key in winner.values and axis.kind != "choice"
            else axis
            for axis in box.axes
        )
    )


def _narrowed(axis: Axis, whole: Axis, value: float, shrink: float) -> Axis:
    if axis.kind == "integer":
        count = max(1, round(axis.count * shrink))
        low = min(max(value - (count - 1) // 2, whole.low), whole.high - count + 1)
        return dataclasses.replace(axis, low=low, high=low + count - 1)
    width = (whole.encode(axis.high) - whole.encode(axis.low)) * shrink
    low = min(max(whole.encode(value) - width / 2, 0.0), 1 - width)
    high = 1.0 if low == 1 - width else low + width  # the end itself, whatever rounding does
    return dataclasses.replace(axis, low=whole.decode(low), high=whole.decode(high))


def _borders(box: Space, winner: Trial | None) -> dict[str, str]:
    borders = {}
    for axis in box.axes:
        few = axis.kind == "choice" or 0 < axis.count <= 2  # all of it would be border
        if winner is None or few or axis.key not in winner.values:
            continue
        value = winner.values[axis.key]
        ends = axis.encode(axis.low), axis.encode(axis.high)  # 0 and 1, but for whole numbers
        place = (axis.encode(value) - ends[0]) / (ends[1] - ends[0])
        if min(place, 1 - place) <= _BORDER:
            borders[axis.key] = "lower" if place < 0.5 else "upper"
    return borders
