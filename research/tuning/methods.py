"""Make the space and the sampler of `config.search`; it proposes no training twice.

The same values train to the same score, so a repeat wastes a trial. Samplers repeat points if all
axes are whole numbers or choices, or if a choice has a value on which no other axis depends.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ml_collections import ConfigDict

from research.config import check_config
from research.errors import UserError, unknown_name
from research.names import bind, public_functions, resolve
from research.tuning import coarse_to_fine, engines, lane_modes, samplers, schedulers
from research.tuning.axes import Axis, trained
from research.tuning.config import check_section, training
from research.tuning.reports import Objective
from research.tuning.sequences import generator, untried
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
        return sum(float(a != b) if axis.kind == "choice" else abs(a - b) for axis, a, b in places)

    return min(itertools.islice(points, _NEAR), key=distance, default=values)


def check_search(config: ConfigDict) -> Space:
    """Check a config before any work is done.

    Args:
      config: a training config with a section `search`.

    Returns:
      The space to search.

    Raises:
      UserError: a wrong key, type or value, or more programs than are allowed.
    """
    if not isinstance(config.get("search"), ConfigDict):
        raise UserError(
            "the config has no section `search`: python -m research.main trains it (allowed: "
            "config.search = default_search(), as in configs/search_bn_adam.py)"
        )
    check_section(config)
    modules = {"scheduler": schedulers, "lane_mode": lane_modes, "engine": engines}
    for key, module in modules.items():
        resolve(f"config.search.{key}", config.search[key], module)
    from_config(config.search)
    check_config(training(config))
    Objective.from_config(config)
    space = Space.from_config(config)
    programs = space.programs()
    if programs > config.search.max_programs:
        static = [key for key in space.keys if not space.is_traced(key)]
        raise UserError(
            f"config.search.space: {programs} programs to compile, one for each combination of "
            f"{', '.join(static)} (allowed: config.search.max_programs = "
            f"{config.search.max_programs})"
        )
    if not _pairs(config.search.slurm_options):
        raise UserError(
            f"config.search.slurm_options = {config.search.slurm_options!r} is no tuple of pairs "
            "(allowed: (('partition', 'gpu'), ...))"
        )
    for point in config.search.enqueue:
        if not _pairs(point):
            raise UserError(
                f"config.search.enqueue: {point!r} is no tuple of pairs (allowed: "
                "(('optimizer.learning_rate', 1e-3), ...))"
            )
        space.check(dict(point), "config.search.enqueue")
    return space


def _pairs(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in value
    )


def from_config(search: ConfigDict) -> Callable:
    """Return the sampler, bound to its numbers: `sampler(space, trials, count, seed) -> proposals`.

    Raises:
      UserError: an unknown method, or a number out of its range.
    """
    _check(search)
    method = resolve("config.search.method", search.method, samplers)
    if method is not samplers.coarse_to_fine:
        return EachOnce(bind(method, _with_acquisition(search), {}))
    return bind(method, {**search, "round_method": _within_rounds(search)}, {})


def left(search: ConfigDict, space: Space, trials: Sequence[Trial]) -> float:
    """Return the number of points that were not tried; infinite if an axis is continuous.

    For `coarse_to_fine` it is the number in the last round, and infinite before that round.
    """
    trials = [trial for trial in trials if trial.proposal.parent is None]
    if not _in_rounds(search):
        return from_config(search).left(space, trials)
    now = rounds(search, space, trials)[-1]
    return now.left if now.last else math.inf


def points_text(search: ConfigDict, space: Space) -> str:
    """Return a line like '81 points, 27 will be tried'; '' if an axis is continuous."""
    rounds = _in_rounds(search)
    points = (_within_rounds(search) if rounds else from_config(search)).left(space, [])
    asked = min(search.round_trials, search.trials) if rounds else search.trials
    where = " in the first round" * rounds
    if math.isinf(points):
        return ""
    if points < asked:
        end = "the round" if rounds else "the search"
        return (
            f"{points:,} points{where}, {asked:,} trials asked: {end} ends when each was tried once"
        )
    return f"{points:,} points{where}, {asked:,} will be tried"


def budget(search: ConfigDict, space: Space) -> int:
    """Return the number of trials there will be: the trials asked for, or the points if fewer."""
    by_hand = [Trial(i, Proposal(dict(x)), 1) for i, x in enumerate(search.enqueue)]
    return int(min(search.trials, len(by_hand) + left(search, space, by_hand)))


def _in_rounds(search: ConfigDict) -> bool:
    return search.method == samplers.coarse_to_fine.__name__


def rounds(search: ConfigDict, space: Space, trials: Sequence[Trial]) -> list[coarse_to_fine.Round]:
    """Return the rounds of `coarse_to_fine` so far; copies of other trials are left out."""
    trials = [trial for trial in trials if trial.proposal.parent is None]
    section = {**search, "round_method": _within_rounds(search)}
    return bind(coarse_to_fine.rounds_of, section, {})(space, trials)


def _within_rounds(search: ConfigDict) -> EachOnce:
    name = search.round_method
    methods = public_functions(samplers)
    if name == samplers.coarse_to_fine.__name__:
        methods.pop(name)
        raise unknown_name("config.search.round_method", name, methods)
    method = resolve("config.search.round_method", name, samplers)
    return EachOnce(bind(method, _with_acquisition(search), {}))


def _with_acquisition(search: ConfigDict) -> dict:
    """Return the section with the acquisition function, bound to its numbers, for its name."""
    from research.tuning import acquisition  # imports jax

    function = resolve("config.search.acquisition", search.acquisition, acquisition)
    return {**search, "acquisition": bind(function, search, {})}


def _check(search: ConfigDict) -> None:
    if not 0 < search.shrink <= 1:
        raise UserError(
            f"config.search.shrink = {search.shrink!r} (allowed: more than 0, at most 1)"
        )
    shares = search.round_shares
    numbers = all(isinstance(share, (int, float)) and 0 < share <= 1 for share in shares)
    if not numbers or len(shares) != search.rounds:
        raise UserError(
            f"config.search.round_shares = {shares!r} (allowed: {search.rounds} numbers, as "
            "config.search.rounds says, each more than 0 and at most 1)"
        )
