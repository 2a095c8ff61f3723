"""The points of a space that can be counted, in an order whose beginnings are spread over it."""

import functools
import itertools
import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from research.tuning.axes import Axis, trained
from research.tuning.history import seed_of
from research.tuning.spaces import Space

_SHIFTS = 32  # of which the one is taken whose pairs of values were seen least


def identity(values: dict[str, Any]) -> frozenset:
    """The same for values that train to the same score."""
    return frozenset((key, trained(value)) for key, value in values.items())


def untried(space: Space, tried: set[frozenset], seed: int) -> Iterator[dict[str, Any]]:
    """All other points of a space whose axes can be counted; see `ordered`.

    Args:
      space: whose points.
      tried: identities of those to leave out.
      seed: another one is another order.
    """
    known, rest = _listed(space, seed)
    for index in itertools.count():
        if index == len(known):
            values = next(rest, None)
            if values is None:
                return
            known.append((identity(values), values))
        if known[index][0] not in tried:
            yield dict(known[index][1])


@functools.lru_cache(maxsize=16)
def _listed(space: Space, seed: int) -> tuple[list, Iterator]:
    """The beginning of the order, as long as it was asked for, and the rest."""
    return [], ordered(space, seed)


def ordered(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Every point of a space whose axes can be counted once, so that each beginning is spread.

    In each beginning the values of an axis come equally often, to one; those of pairs of axes as
    equally as a few drawn orders allow; and values of an axis that follow each other lie apart.
    Where axes have conditions, the branches take turns until they are at their ends.
    """
    draws = random.Random(seed_of(seed, 0))
    values = {axis.key: _apart(axis.spread(axis.count), draws) for axis in space.axes}
    for point in _branches(space.axes, values, 0, draws.randrange(2**32)):
        yield {key: point[key] for key in space.keys if key in point}


def _branches(axes: Sequence[Axis], values: dict[str, list], turn: int, seed: int) -> Iterator:
    """Points of axes: those of each value of an axis that others depend on, in turns."""
    roots = {axis.when[0] for axis in axes if axis.when}
    root = next((axis for axis in axes if axis.key in roots), None)
    if root is None:
        keys = [axis.key for axis in axes]
        for point in _product([len(values[key]) for key in keys], turn, random.Random(seed)):
            yield {key: values[key][place] for key, place in zip(keys, point, strict=True)}
        return
    branches = [
        _branches(_given(axes, root, value), values | {root.key: [value]}, turn + place, seed)
        for place, value in enumerate(values[root.key])
    ]
    for points in itertools.zip_longest(*branches):
        yield from (point for point in points if point is not None)


def _given(axes: Sequence[Axis], root: Axis, value: Any) -> list[Axis]:
    """The axes where a choice has fallen: without conditions on it, and what does not meet them."""
    there: list[Axis] = []
    for axis in axes:
        if axis.when[:1] == (root.key,):
            if axis.when[1] == value:
                there.append(Axis(axis.kind, axis.key, axis.low, axis.high, axis.values))
        elif not axis.when or axis.when[0] in {other.key for other in there}:
            there.append(axis)
    return there


def _apart(values: list, draws: random.Random) -> list:
    """The values, so that neighbours in order lie apart: halves take turns, and halves of halves.

    A van der Corput sequence, scrambled by drawing which half comes first (Owen, 1995).
    """
    if len(values) < 2:
        return values
    middle = len(values) // 2
    halves = [_apart(values[:middle], draws), _apart(values[middle:], draws)]
    draws.shuffle(halves)
    places = itertools.zip_longest(*map(range, map(len, halves)))
    return [half[i] for row in places for half, i in zip(halves, row, strict=True) if i is not None]


def _product(sizes: Sequence[int], turn: int, draws: random.Random) -> Iterator[tuple[int, ...]]:
    """Every point of range(sizes[0]) x range(sizes[1]) x ... once, beginning at a turn.

    A run moves on by one place on all axes at once, and from the last place to the first. Until it
    is back, after lcm(sizes) points, it has been on all places of an axis equally often, to one, at
    any time. Runs from shifts (0, s_2, s_3, ...), s_j < gcd(lcm(sizes before), sizes[j]), have no
    point in common, and are all points. The next shift is the one, of a few, whose runs through
    pairs of axes were taken least.
    """
    radices, period = [], 1
    for size in sizes:
        radices.append(math.gcd(period, size))
        period = math.lcm(period, size)
    count = math.prod(radices)
    step = draws.randrange(count)
    while math.gcd(step, count) > 1:
        step = draws.randrange(count)
    start = draws.randrange(count)
    shifts = (_digits((start + step * index) % count, radices) for index in range(count))
    taken: Counter = Counter()
    drawn: list[tuple[int, ...]] = []

    def runs(shift: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """The run of each pair of axes."""
        return [
            (i, j, (shift[i] - shift[j]) % math.gcd(sizes[i], sizes[j]))
            for i, j in itertools.combinations(range(len(sizes)), 2)
        ]

    while drawn := [*drawn, *itertools.islice(shifts, _SHIFTS - len(drawn))]:
        shift = min(drawn, key=lambda shift: sum(taken[run] ** 2 for run in runs(shift)))
        drawn.remove(shift)
        taken.update(runs(shift))
        for place in range(turn, turn + period):
            yield tuple((s + place) % size for s, size in zip(shift, sizes, strict=True))


def _digits(number: int, radices: Sequence[int]) -> tuple[int, ...]:
    digits = []
    for radix in radices:
        number, digit = divmod(number, radix)
        digits.append(digit)
    return tuple(digits)
