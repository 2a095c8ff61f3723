"""Samplers, which propose trials: the names `config.search.method` may use.

A sampler is a pure function of the trials so far, in order of their numbers, including running
ones. The same history gives the same proposals, so an interrupted search continues unchanged. A
sampler may return fewer proposals than asked for, if it waits for scores or has no more points.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from research.tuning import coarse_to_fine as _coarse_to_fine
from research.tuning.sequences import generator, seed_of, sobol_points, untried
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Proposal, Trial


def grid(
    space: Space, trials: Sequence[Trial], count: int, seed: int, *, grid_points: int
) -> list[Proposal]:
    """Try the full factorial: all choices, and so many values of each number, with both ends.

    An axis whose condition is not met is left out of the product, and points already tried are left
    out of the proposals. The seed decides the order; its first n points are spread over the grid.
    """
    tried = {trial.proposal.identity for trial in trials}
    left = untried(space.gridded(grid_points), tried, seed)
    return [Proposal(values) for values in itertools.islice(left, count)]


def random(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Draw independent points, uniform on the scale of each axis (Bergstra and Bengio, 2012)."""
    numbers = range(len(trials), len(trials) + count)
    return _decoded(space, [generator(seed, number).random(space.size) for number in numbers])


def sobol(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Follow a scrambled Sobol sequence (Sobol, 1967; Owen, 1998), more even than random points."""
    return _decoded(space, sobol_points(space.size, seed, len(trials), count))


def tpe(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Use the tree-structured Parzen estimator (Bergstra et al., 2011) of Optuna.

    Multivariate. Running trials count as bad, so that a batch spreads. Stopped trials count as
    worse than finished ones; those that trained longer count as better.
    """
    from optuna import create_study
    from optuna.samplers import TPESampler

    from research.tuning.optuna_export import quietly

    with quietly():
        study = create_study()
        study.add_trials([_optuna_trial(space, trial) for trial in trials])
        proposals = []
        for number in range(len(trials), len(trials) + count):
            study.sampler = TPESampler(seed=seed_of(seed, number), **_TPE_OPTIONS)
            proposals.append(Proposal(_suggested(space, study.ask())))
        return proposals


def cmaes(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Use CMA-ES (Hansen and Ostermeier, 2001) in the unit cube; it restarts after convergence.

    Generations are cut from the ended trials by number, so that no generation waits for another.
    """
    from cmaes import CMA

    # Optuna's own CMA-ES pickles its state into trials. Here `cmaes` gets all trials again.
    size = max(space.size, 2)  # `cmaes` needs two dimensions
    restarts = 0
    bounds = np.tile([0.0, 1.0], (size, 1))
    search = CMA(np.full(size, 0.5), _CMA_WIDTH, bounds=bounds)
    ended = [trial for trial in trials if trial.end != RUNNING]
    whole = len(ended) // search.population_size * search.population_size
    for first in range(0, whole, search.population_size):
        generation = []
        for trial in ended[first : first + search.population_size]:
            # A choice is a coordinate in equal parts; an inactive axis stays at the mean.
            point, known = search.mean.copy(), space.active(trial.values)
            point[: space.size][known] = space.encode(trial.values)[known]
            score = trial.outcome if math.isfinite(trial.outcome) else _CMA_WORST
            generation.append((point, score))
        search.tell(generation)
        if search.should_stop():
            restarts += 1
            mean = generator(seed, -restarts % 2**32).random(size)
            search = CMA(mean, _CMA_WIDTH, bounds=bounds)
    points = []
    for number in range(len(trials), len(trials) + count):
        search.reseed_rng(seed_of(seed, number))
        points.append(search.ask()[: space.size])
    return _decoded(space, points)


def bayes(
    space: Space, trials: Sequence[Trial], count: int, seed: int, *, acquisition: Callable
) -> list[Proposal]:
    """Fit a Gaussian process to the scores (Snoek et al., 2012); `acquisition` ranks the points.

    A batch is chosen point by point. Earlier points of the batch and running trials count with
    scores drawn from the posterior.
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
    segments: int,
) -> list[Proposal]:
    """Search wide and short first, then narrower around the best and longer, round by round.

    Within a round another method proposes, from the trials of that round only. A round begins when
    all trials of the previous round have ended; it ends early if all points of its box were tried.
    """
    now = _coarse_to_fine.rounds_of(
        space,
        trials,
        round_method=round_method,
        rounds=rounds,
        round_trials=round_trials,
        round_shares=round_shares,
        shrink=shrink,
        segments=segments,
    )[-1]
    inside = [trial for trial in now.trials if now.space.holds(trial.values)]
    count = int(min(count, now.left))
    proposals = round_method(now.space, inside, count, seed_of(seed, now.number), now.before)
    return [dataclasses.replace(proposal, share=now.share) for proposal in proposals]


def _decoded(space: Space, units: Sequence[np.ndarray]) -> list[Proposal]:
    return [Proposal(space.decode(unit)) for unit in units]


_CMA_WIDTH = 0.3  # standard deviation of the first generation, in the unit cube
_CMA_WORST = 1e30  # score of a trial that has none; finite, because `cmaes` subtracts scores
# All options that decide the proposals, so that Optuna's defaults may change. Their effects are
# measured in benchmarks/README.md.
_TPE_OPTIONS = {
    "n_startup_trials": 10,  # random points until so many trials have ended
    "n_ei_candidates": 24,  # drawn from the density of good points; the best of them is proposed
    "multivariate": True,  # one joint density over all axes
    "group": False,  # conditional axes are drawn one by one; groups are experimental in Optuna
    "constant_liar": True,  # running trials count as bad, so that a batch spreads
}


def _suggested(space: Space, asked) -> dict[str, Any]:
    """Ask a trial of Optuna for a value on each active axis."""
    values: dict[str, Any] = {}
    for axis in space.axes:
        if not axis.is_met(values):
            continue
        if axis.kind == "choice":
            values[axis.key] = axis.values[asked.suggest_categorical(axis.key, range(axis.count))]
        elif axis.kind == "integer":
            values[axis.key] = asked.suggest_int(axis.key, axis.low, axis.high)
        else:
            log = axis.kind == "log"
            values[axis.key] = asked.suggest_float(axis.key, axis.low, axis.high, log=log)
    return values


def _optuna_trial(space: Space, trial: Trial):
    """Return a trial as Optuna's estimator reads it; a choice is the index of its value."""
    from optuna.trial import TrialState, create_trial

    from research.tuning.optuna_export import distribution

    known = math.isfinite(trial.outcome)
    if trial.end == RUNNING:
        state = TrialState.RUNNING
    elif known and trial.segment == trial.segments:
        state = TrialState.COMPLETE
    else:  # ranked below complete trials, by length and then by score; without a score it is last
        state = TrialState.PRUNED
    axes = [axis for axis in space.axes if axis.key in trial.values]

    def plain(axis):
        value = trial.values[axis.key]
        return axis.values.index(value) if axis.kind == "choice" else value

    return create_trial(
        state=state,
        value=trial.outcome if state == TrialState.COMPLETE else None,
        intermediate_values={trial.segment: trial.outcome} if known else {},
        params={axis.key: plain(axis) for axis in axes},
        distributions={axis.key: distribution(axis, range(axis.count)) for axis in axes},
    )
