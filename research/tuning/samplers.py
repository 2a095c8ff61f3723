"""What to try next: the names `config.search.method` may use.

A sampler is a pure function of the trials so far, in order of their numbers, running ones among
them: the same history gives the same proposals, so a search that was interrupted goes on as if it
had not been. It may return fewer than asked for, where it waits for scores or has no more.
"""

import dataclasses
import itertools
from collections.abc import Callable, Sequence

import numpy as np

from research.tuning import boxes
from research.tuning.history import generator, seed_of, sobol_points
from research.tuning.orders import untried
from research.tuning.spaces import Space
from research.tuning.trials import Proposal, Trial


def grid(
    space: Space, trials: Sequence[Trial], count: int, seed: int, *, grid_points: int
) -> list[Proposal]:
    """Full factorial: all choices with so many values of each number, both ends among them.

    An axis whose condition is not met is not multiplied with. What was tried is left out. The seed
    decides the order, whose first n points are spread over the grid for every n.
    """
    tried = {trial.proposal.identity for trial in trials}
    left = untried(space.gridded(grid_points), tried, seed)
    return [Proposal(values) for values in itertools.islice(left, count)]


def random(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Independent, uniform on the scale of each axis (Bergstra and Bengio, 2012)."""
    numbers = range(len(trials), len(trials) + count)
    return _decoded(space, [generator(seed, number).random(space.size) for number in numbers])


def sobol(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Return a scrambled Sobol sequence (Sobol, 1967; Owen, 1998), more even than random points."""
    return _decoded(space, sobol_points(space.size, seed, len(trials), count))


def tpe(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Tree-structured Parzen estimator (Bergstra et al., 2011), as in Optuna.

    Multivariate; running trials count as bad ones, so that a batch spreads. Stopped ones count as
    worse than finished ones, those that came further as better.
    """
    from research.tuning import parzen

    return parzen.propose(space, trials, count, seed)


def cmaes(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """CMA-ES (Hansen and Ostermeier, 2001) in the unit cube; starts anew where it converged.

    Generations are cut from the trials that ended, by number, so that none waits for another.
    """
    from research.tuning import evolution

    return _decoded(space, evolution.propose(space, trials, count, seed))


def bayes(
    space: Space, trials: Sequence[Trial], count: int, seed: int, *, acquisition: Callable
) -> list[Proposal]:
    """Fit a Gaussian process to the scores (Snoek et al., 2012); `acquisition` ranks points.

    A batch is chosen point by point; those before, and trials that run, count with scores they may
    come to.
    """
    from research.tuning import bayesian

    return _decoded(space, bayesian.propose(space, trials, count, seed, acquisition))


def coarse_to_fine(
    space: Space,
    trials: Sequence[Trial],
    count: int,
    seed: int,
    *,
    round_method: Callable,
    rounds: int,
    round_trials: int,
    round_shares: tuple[float, ...],
    shrink: float,
    pieces: int,
) -> list[Proposal]:
    """Wide and short first, then narrower around the best and longer, round by round.

    In each round another method decides, by the trials of that round alone. A round begins when all
    trials of the one before have ended; it ends early where all points of its box were tried.
    """
    now = boxes.rounds_of(
        space,
        trials,
        round_method=round_method,
        rounds=rounds,
        round_trials=round_trials,
        round_shares=round_shares,
        shrink=shrink,
        pieces=pieces,
    )[-1]
    inside = [trial for trial in now.trials if now.space.holds(trial.values)]
    count = int(min(count, now.left))
    proposals = round_method(now.space, inside, count, seed_of(seed, now.number), now.before)
    return [dataclasses.replace(proposal, share=now.share) for proposal in proposals]


def _decoded(space: Space, units: Sequence[np.ndarray]) -> list[Proposal]:
    return [Proposal(space.decode(unit)) for unit in units]
