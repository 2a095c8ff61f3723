"""A sampler that proposes no training twice.

The same numbers train to the same score. Where an axis that is always there is a continuum nothing
is proposed twice; where all axes can be counted, or a branch of conditions has none that cannot,
samplers come back to points that were tried.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

from research.tuning.axes import Axis, trained
from research.tuning.history import generator
from research.tuning.orders import identity, untried
from research.tuning.spaces import Space
from research.tuning.trials import Proposal, Trial

_NEAR = 256  # untried points, of which the one that is nearest to a repeat takes its place
_LISTED = 2**20  # values of an axis, at most, that are put in order


class EachOnce:
    """A sampler that proposes no point twice, and none once all were tried.

    In the place of a repeat it proposes a near point that was not tried.

    Args:
      method: of research/tuning/samplers.py, bound to its numbers.
    """

    def __init__(self, method: functools.partial):
        self._method = method

    def _searched(self, space: Space) -> Space:
        """The points that can be proposed."""
        grid_points = self._method.keywords.get("grid_points")
        return space if grid_points is None else _gridded(space, grid_points)

    def left(self, space: Space, tried: Sequence[Trial]) -> float:
        """How many points were not tried; infinite where there is no end of them."""
        searched = self._searched(space)
        if math.isinf(searched.points):
            return math.inf
        values = {axis.key: set(map(trained, axis.values)) for axis in searched.axes}

        def has(axis: Axis, value: Any) -> bool:
            return trained(value) in values[axis.key] if axis.values else axis.holds(value)

        inside = {
            identity(trial.values)
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
        """The next points, by the trials; what `others` tried is not proposed either."""
        searched = self._searched(space)
        if any(not axis.count and not axis.when for axis in searched.axes):
            return self._method(space, trials, count, seed)
        tried = [*trials, *others]
        count = int(min(count, self.left(space, tried)))
        if not count:
            return []
        known = {identity(trial.values) for trial in tried}
        proposals = []
        for number, proposal in enumerate(self._method(space, trials, count, seed), len(trials)):
            values = proposal.values
            if identity(values) in known:
                values = _near(searched, values, known, seed, number)
            known.add(identity(values))
            proposals.append(Proposal(values))
        return proposals


_gridded = functools.lru_cache(maxsize=16)(Space.gridded)


def _near(
    space: Space, values: dict[str, Any], known: set[frozenset], seed: int, number: int
) -> dict[str, Any]:
    """A point that is not known, as near to the values as one of a few; themselves if none is."""
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
