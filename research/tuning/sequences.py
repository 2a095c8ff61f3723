"""Sequences of points: seeded random numbers, Sobol points, and an even order of a finite space."""

import functools
import itertools
import math
import random
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from research.tuning.axes import Axis
from research.tuning.spaces import Space
from research.tuning.trials import identity

_SHIFTS = 32  # number of candidates for the next run of `_product`


def generator(seed: int, number: int) -> np.random.Generator:
    """Return the generator of one trial, by the search's seed and the trial's number alone."""
    return np.random.default_rng((seed, number))


def seed_of(seed: int, number: int) -> int:
    """Return a 32-bit seed for one trial, for libraries that have their own generators."""
    return int(generator(seed, number).integers(2**32))


def sobol_points(size: int, seed: int, first: int, count: int) -> np.ndarray:
    """Return points (count, size) of a scrambled Sobol sequence (Sobol, 1967; Owen, 1998)."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(size, rng=seed)
    if first:  # SciPy cannot skip 0 points
        sequence.fast_forward(first)
    with warnings.catch_warnings():  # SciPy warns of counts that are no power of 2
        warnings.simplefilter("ignore", UserWarning)
        return sequence.random(count)


def untried(space: Space, tried: set[frozenset], seed: int) -> Iterator[dict[str, Any]]:
    """Yield the untried points of a finite space, in the order of `ordered`.

    Args:
      space: a space whose axes are all whole numbers or choices.
      tried: the identities of the points to leave out.
      seed: it decides the order.
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
    """Return a list for the points read so far, with identities, and an iterator of the others."""
    return [], ordered(space, seed)


def ordered(space: Space, seed: int) -> Iterator[dict[str, Any]]:
    """Yield every point of a finite space once, in an order that the seed decides.

    Among the first n points, for every n, the counts of the values of an axis differ by at most
    one, and the counts of pairs of values are close. Successive values of an axis lie apart. Axes
    with conditions make branches, which take turns until each is exhausted. The counts of the other
    axes may then differ by more.
    """
    draws = random.Random(seed_of(seed, 0))
    values = {axis.key: _apart(axis.spread(axis.count), draws) for axis in space.axes}
    for point in _branches(space.axes, values, 0, draws.randrange(2**32)):
        yield {key: point[key] for key in space.keys if key in point}


def _branches(axes: Sequence[Axis], values: dict[str, list], turn: int, seed: int) -> Iterator:
    """Yield the points of axes; each value of the first axis with dependants is a branch."""
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
    """Return the axes that exist if a choice has this value, without their condition on it."""
    existing: list[Axis] = []
    for axis in axes:
        if axis.when[:1] == (root.key,):
            if axis.when[1] == value:
                existing.append(Axis(axis.kind, axis.key, axis.low, axis.high, axis.values))
        elif not axis.when or axis.when[0] in {axis.key for axis in existing}:
            existing.append(axis)
    return existing


def _apart(values: list, draws: random.Random) -> list:
    """Return the values in an order in which neighbours lie apart.

    The values of the lower and the upper half take turns, recursively within each half. This is a
    van der Corput sequence, scrambled by drawing which half comes first (Owen, 1995).
    """
    if len(values) < 2:
        return values
    middle = len(values) // 2
    halves = [_apart(values[:middle], draws), _apart(values[middle:], draws)]
    draws.shuffle(halves)
    places = itertools.zip_longest(*map(range, map(len, halves)))
    return [half[i] for row in places for half, i in zip(halves, row, strict=True) if i is not None]


def _product(sizes: Sequence[int], turn: int, draws: random.Random) -> Iterator[tuple[int, ...]]:
    """Yield every point of range(sizes[0]) x range(sizes[1]) x ... once.

    A run starts at a point s and adds 1 to all coordinates, each modulo its size: point i of the
    run is (s_j + i) mod sizes[j]. It returns to s after lcm(sizes) points, and passes the values of
    each coordinate in turn. The runs from all s with s_j < gcd(lcm(sizes[:j]), sizes[j]) share no
    point and cover all points. For each pair of coordinates a run has one of gcd classes: the
    difference of the two modulo the gcd of their sizes. Of a few candidates the next run is the one
    whose classes were used least.

    Args:
      sizes: number of values of each coordinate, at least 1.
      turn: position in its cycle at which each run starts.
      draws: the source of the order of the runs.
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
    used: Counter = Counter()
    drawn: list[tuple[int, ...]] = []

    def runs(shift: tuple[int, ...]) -> list[tuple[int, int, int]]:
        """Return the class of the run for each pair of coordinates."""
        return [
            (i, j, (shift[i] - shift[j]) % math.gcd(sizes[i], sizes[j]))
            for i, j in itertools.combinations(range(len(sizes)), 2)
        ]

    while drawn := [*drawn, *itertools.islice(shifts, _SHIFTS - len(drawn))]:
        shift = min(drawn, key=lambda shift: sum(used[run] ** 2 for run in runs(shift)))
        drawn.remove(shift)
        used.update(runs(shift))
        for place in range(turn, turn + period):
            yield tuple((s + place) % size for s, size in zip(shift, sizes, strict=True))


def _digits(number: int, radices: Sequence[int]) -> tuple[int, ...]:
    """Return the digits of a number in a mixed radix, the lowest first."""
    digits = []
    for radix in radices:
        number, digit = divmod(number, radix)
        digits.append(digit)
    return tuple(digits)
