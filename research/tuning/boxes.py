"""Search from coarse to fine: the rounds of a search, and the box of each round."""

import dataclasses
import math
from collections.abc import Sequence

from research.config import KEYS
from research.tuning.axes import Axis, trained
from research.tuning.distinct import EachOnce
from research.tuning.history import best
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Trial, pieces_of

_BORDER = 0.05  # share of a box's width; a value this close to the end lies on the border
_NARROWEST = 1e-5  # width on the scale of an axis; less holds few single-precision values


@dataclasses.dataclass(frozen=True)
class Round:
    """One round: the box that it searched, and its results."""

    number: int  # from 0
    space: Space  # its axes have the limits of the box; choices keep all values
    share: float  # of the duration, for which its trials train
    trials: Sequence[Trial]  # so far
    before: Sequence[Trial]  # of earlier rounds that train as long; no trial repeats them
    left: float  # number of trials still to come; may be infinite in the last round
    last: bool
    best: Trial | None  # so far
    borders: dict[str, str]  # key -> 'lower' or 'upper', if the best trial lies on a border
    edges: tuple[str, ...]  # those of these keys whose border is an end of the space

    @property
    def box(self) -> dict[str, tuple[float, float]]:
        """Return the lowest and highest value by key, for all axes except choices."""
        axes = (axis for axis in self.space.axes if axis.kind != "choice")
        return {axis.key: (axis.low, axis.high) for axis in axes}

    @property
    def over(self) -> bool:
        """Return whether the last trial of the round has ended."""
        return not self.left and all(trial.end != RUNNING for trial in self.trials)

    def warnings(self) -> list[str]:
        """Return a line for each border on which the best trial lies."""
        lines = []
        for key, side in self.borders.items():
            low, high = self.box[key]
            if key in self.edges:
                axis = next(axis for axis in self.space.axes if axis.key == key)
                then = f"the space ends there: {beyond(axis, side)}"
            elif self.last:
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
    round_method: EachOnce,
    rounds: int,
    round_trials: int,
    round_shares: tuple[float, ...],
    shrink: float,
    pieces: int,
) -> list[Round]:
    """Return the rounds that a search has begun, in order.

    A box has `shrink` times the width of the previous box, on the scale of each axis. Its centre is
    the best trial of the previous round. It is shifted to stay inside the space, and may reach past
    the border of the previous box if the best trial lies there. The box does not change if no trial
    has a score.

    Args:
      space: the whole space.
      trials: the history, by number.
      round_method: the method within a round.
      rounds: as in `config.search`.
      round_trials: as in `config.search`.
      round_shares: as in `config.search`.
      shrink: as in `config.search`.
      pieces: as in `config.search`.
    """
    found: list[Round] = []
    box, first = space, 0
    lengths = [pieces_of(share, pieces) for share in round_shares]
    for number in range(rounds):
        last = number == rounds - 1
        earlier = zip(found, lengths, strict=False)
        before = [t for r, length in earlier if length == lengths[number] for t in r.trials]
        points = round_method.left(box, before)
        size = int(min(round_trials, points))
        members = trials[first:] if last else trials[first : first + size]
        left = round_method.left(box, [*before, *members]) if last else size - len(members)
        winner = best(members)
        ends_of_best = borders(box, winner) if winner else {}
        compared = {
            key: side
            for key, side in ends_of_best.items()
            if tried_elsewhere(box, key, side, members)
        }
        ends = {axis.key: axis for axis in space.axes}
        now = {axis.key: axis for axis in box.axes}
        edges = tuple(
            key
            for key, side in compared.items()
            if (
                now[key].low == ends[key].low
                if side == "lower"
                else now[key].high == ends[key].high
            )
        )
        share = round_shares[number]
        found.append(
            Round(number, box, share, members, before, left, last, winner, compared, edges)
        )
        if not found[-1].over:
            break
        box, first = narrowed(box, space, winner, shrink), first + size
    return found


def narrowed(box: Space, space: Space, winner: Trial | None, shrink: float) -> Space:
    """Return the next box: `shrink` times as wide, around a trial's values, inside the space.

    No axis gets narrower than single precision can resolve.
    """
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
    width = max((whole.encode(axis.high) - whole.encode(axis.low)) * shrink, _NARROWEST)
    low = min(max(whole.encode(value) - width / 2, 0.0), 1 - width)
    high = 1.0 if low == 1 - width else low + width  # exactly the end, without rounding
    box = dataclasses.replace(axis, low=whole.decode(low), high=whole.decode(high))
    return box if trained(box.low) < trained(box.high) else axis


def borders(space: Space, trial: Trial) -> dict[str, str]:
    """Return the axes with a trial on their 'lower' or 'upper' end, within 5 % of the width.

    Choices have no ends. Axes of one or two whole numbers have none either.
    """
    found = {}
    for axis in space.axes:
        if axis.key not in trial.values or axis.kind == "choice" or 0 < axis.count <= 2:
            continue
        low, value, high = (axis.encode(x) for x in (axis.low, trial.values[axis.key], axis.high))
        place = (value - low) / (high - low)
        if min(place, 1 - place) <= _BORDER:
            found[axis.key] = "lower" if place < 0.5 else "upper"
    return found


def beyond(axis: Axis, side: str) -> str:
    """Return a phrase about values beyond the 'lower' or 'upper' end of an axis."""
    limits = (axis.key in KEYS and KEYS[axis.key].range) or (-math.inf, math.inf)
    end = axis.low if side == "lower" else axis.high
    if end == limits[side == "upper"]:
        return f"the key allows no {'less' if side == 'lower' else 'more'}"
    return "a wider axis may hold better values"


def tried_elsewhere(space: Space, key: str, side: str, trials: Sequence[Trial]) -> bool:
    """Return whether any trial lies away from this end of an axis, for a comparison."""
    there = (trial for trial in trials if key in trial.values)
    return any(borders(space, trial).get(key) != side for trial in there)
