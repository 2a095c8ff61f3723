"""From `config.search` to its sampler."""

import math
from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from research.errors import UserError, unknown_name
from research.names import bind, public_functions, resolve
from research.tuning import boxes, samplers
from research.tuning.distinct import EachOnce
from research.tuning.spaces import Space
from research.tuning.trials import Proposal, Trial


def from_config(search: ConfigDict) -> Callable:
    """Bind the sampler to its numbers: `sampler(space, trials, count, seed) -> proposals`.

    It proposes no training twice (research/tuning/distinct.py).

    Raises:
      UserError: an unknown method, or a number that it cannot work with.
    """
    _check(search)
    method = resolve("config.search.method", search.method, samplers)
    if method is not samplers.coarse_to_fine:
        return EachOnce(bind(method, _with_acquisition(search), {}))
    return bind(method, {**search, "round_method": _within_rounds(search)}, {})


def left(search: ConfigDict, space: Space, trials: Sequence[Trial]) -> float:
    """Return the number of points that were not tried; infinite where an axis is continuous.

    For `coarse_to_fine` it is the number in the last round, and infinite before that round.
    """
    trials = [trial for trial in trials if trial.proposal.parent is None]
    if not _in_rounds(search):
        return from_config(search).left(space, trials)
    now = rounds(search, space, trials)[-1]
    return now.left if now.last else math.inf


def points_told(search: ConfigDict, space: Space) -> str:
    """Return '81 points, 27 will be tried', or the like; '' where an axis is continuous."""
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


def rounds(search: ConfigDict, space: Space, trials: Sequence[Trial]) -> list[boxes.Round]:
    """Return what `coarse_to_fine` has looked at so far, by round; no copies of other trials."""
    trials = [trial for trial in trials if trial.proposal.parent is None]
    names = ("rounds", "round_trials", "round_shares", "shrink", "pieces")
    numbers = {name: search[name] for name in names}
    return boxes.rounds_of(space, trials, round_method=_within_rounds(search), **numbers)


def _within_rounds(search: ConfigDict) -> EachOnce:
    name = search.round_method
    methods = public_functions(samplers)
    if name == samplers.coarse_to_fine.__name__:
        methods.pop(name)
        raise unknown_name("config.search.round_method", name, methods)
    method = resolve("config.search.round_method", name, samplers)
    return EachOnce(bind(method, _with_acquisition(search), {}))


def _with_acquisition(search: ConfigDict) -> dict:
    """Return the section with the function, bound to its numbers, in the place of its name."""
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
