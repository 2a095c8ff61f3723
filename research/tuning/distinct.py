"""Keep a sampler from proposing the same training twice.

The same values train to the same score, so a repeat wastes a trial. Samplers repeat points if all
axes are whole numbers or choices, or if a choice has a value on which no other axis depends.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from research.tuning.axes import Axis, trained
from research.tuning.history import generator
from research.tuning.orders import untried
from research.tuning.spaces import Space
from research.tuning.trials import Proposal, Trial, identity

_NEAR = 256  # number of untried points that are compared with a repeat
_LISTED = 2**20  # values; an axis with more is too long to order


class EachOnce:
    """A sampler without repeats; it proposes nothing after all points were tried.

    It replaces a repeat by an untried point near to the repeat.

    Args:
      method: a sampler of research/tuning/samplers.py, bound to its numbers.
    """

    def __init__(self, method: functools.partial):
        self._method = method

    def _searched(self, space: Space) -> Space:
        """Return the space of the points that the method can propose."""
        grid_points = self._method.keywords.get("grid_points")
        return space if grid_points is None else _gridded(space, grid_points)

    def left(self, space: Space, tried: Sequence[Trial]) -> float:
        """Return the number of untried points; infinite if an axis is continuous."""
        searched = self._searched(space)
        if math.isinf(searched.points):
            return math.inf
        values = {axis.key: set(map(trained, axis.values)) for axis in searched.axes}

        def has(axis: Axis, value: Any) -> bool:
            return trained(value) in values[axis.key] if axis.values else axis.holds(value)

        inside = {
            trial.proposal.identity
            for trial in tried
            if all(has(axis, trial.values[axis.key]) for axis in searched.axes
                   if axis.key in trial.values)
        }  # fmt: skip
        return searched.points - len(inside)

    def __call__(
        self,
        space: Space,
        trials: Sequence[Trial],
        count: int,
        seed: int,
        others: Sequence[Trial] = (),
    ) -> list[Proposal]:
        """Propose at most `count` points that neither `trials` nor `others` tried.

        The method sees only `trials`.
        """
        searched = self._searched(space)
        if any(not axis.count and not axis.when for axis in searched.axes):
            return self._method(space, trials, count, seed)
        tried = [*trials, *others]
        count = int(min(count, self.left(space, tried)))
        if not count:
            return []
        known = {trial.proposal.identity for trial in tried}
        proposals = []
        for number, proposal in enumerate(self._method(space, trials, count, seed), len(trials)):
            if proposal.identity in known:
                proposal = Proposal(_near(searched, proposal.values, known, seed, number))
            known.add(proposal.identity)
            proposals.append(proposal)
        return proposals


_gridded = functools.lru_cache(maxsize=16)(Space.gridded)


def _near(
    space: Space, values: dict[str, Any], known: set[frozenset], seed: int, number: int
) -> dict[str, Any]:
    """Return the nearest of some unknown points; the values themselves if there is none."""
    points: Iterator[dict[str, Any]]
    if all(0 < axis.count <= _LISTED for axis in space.axes):
        points = untried(space, known, seed)
    else:
        units = generator(seed, number).random((_NEAR, space.size))
        points = (point for unit in units if identity(point := space.decode(unit)) not in known)

    def distance(point: dict[str, Any]) -> float:
        shared = (axis for axis in space.axes if axis.key in values and axis.key in point)
        places = ((axis, axis.encode(values[axis.key]), axis.encode(point[axis.key]))
                  for axis in shared)  # fmt: skip
        return sum(
            float(one != other) if axis.kind == "choice" else abs(one - other)
            for axis, one, other in places
        )

    return min(itertools.islice(points, _NEAR), key=distance, default=values)
