"""From `config.search` to its sampler."""

from collections.abc import Callable, Sequence

from ml_collections import ConfigDict

from research.errors import UserError, unknown_name
from research.names import bind, public_functions, resolve
from research.tuning import boxes, samplers
from research.tuning.spaces import Space
from research.tuning.trials import Trial


def from_config(search: ConfigDict) -> Callable:
    """The sampler, bound to its numbers: `sampler(space, trials, count, seed) -> proposals`.

    Raises:
      UserError: an unknown method, or a number that it cannot work with.
    """
    _check(search)
    method = resolve("config.search.method", search.method, samplers)
    section = {**_with_acquisition(search), "round_method": _within_rounds(search)}
    return bind(method, section, {})


def rounds(search: ConfigDict, space: Space, trials: Sequence[Trial]) -> list[boxes.Round]:
    """What `coarse_to_fine` has looked at so far, round by round; no copies of other trials."""
    trials = [trial for trial in trials if trial.proposal.parent is None]
    names = ("rounds", "round_trials", "round_shares", "shrink")
    numbers = {name: search[name] for name in names}
    return boxes.rounds_of(space, trials, round_method=_within_rounds(search), **numbers)


def _within_rounds(search: ConfigDict) -> Callable:
    name = search.round_method
    methods = public_functions(samplers)
    if name == samplers.coarse_to_fine.__name__:
        methods.pop(name)
        raise unknown_name("config.search.round_method", name, methods)
    method = resolve("config.search.round_method", name, samplers)
    return bind(method, _with_acquisition(search), {})


def _with_acquisition(search: ConfigDict) -> dict:
    """The section with the function, bound to its numbers, in the place of its name."""
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
