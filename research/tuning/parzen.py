"""Optuna's tree-structured Parzen estimator, as a function of our trials."""

import math
from collections.abc import Sequence
from typing import Any

from optuna import Trial as Asked
from optuna import create_study
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from research.tuning.axes import Axis
from research.tuning.history import outcome, seed_of
from research.tuning.mirror import quietly
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Proposal, Trial

# What decides the proposals stands here, whatever Optuna's defaults become. What others of them do
# is measured in benchmarks/README.md.
_OPTIONS = {
    "n_startup_trials": 10,  # random points until so many trials have ended
    "n_ei_candidates": 24,  # drawn from the good ones' density; the best of them is proposed
    "multivariate": True,  # one density over all axes: what is good may be so together alone
    "group": False,  # conditional axes are drawn one by one; in groups is experimental in Optuna
    "constant_liar": True,  # running trials count as bad: a batch spreads, and is no one's repeat
}


def propose(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Return the next points; each is drawn by its number, whatever the size of the batch."""
    with quietly():
        study = create_study()
        study.add_trials([_told(space, trial) for trial in trials])
        proposals = []
        for number in range(len(trials), len(trials) + count):
            study.sampler = TPESampler(seed=seed_of(seed, number), **_OPTIONS)
            proposals.append(Proposal(_asked(space, study.ask())))
        return proposals


def _asked(space: Space, asked: Asked) -> dict[str, Any]:
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


def _told(space: Space, trial: Trial) -> FrozenTrial:
    value = outcome(trial)
    known = math.isfinite(value)
    if trial.end == RUNNING:
        state = TrialState.RUNNING
    elif known and trial.piece == trial.pieces:
        state = TrialState.COMPLETE
    else:  # worse than those; of them the best came furthest, and one without a score is the worst
        state = TrialState.PRUNED
    axes = [axis for axis in space.axes if axis.key in trial.values]
    return create_trial(
        state=state,
        value=value if state == TrialState.COMPLETE else None,
        intermediate_values={trial.piece: value} if known else {},
        params={axis.key: _plain(axis, trial.values[axis.key]) for axis in axes},
        distributions={axis.key: _distribution(axis) for axis in axes},
    )


def _plain(axis: Axis, value: Any) -> Any:
    """Optuna's categories are numbers and words alone: ours go by their index."""
    return axis.values.index(value) if axis.kind == "choice" else value


def _distribution(axis: Axis):
    if axis.kind == "choice":
        return CategoricalDistribution(range(axis.count))
    if axis.kind == "integer":
        return IntDistribution(axis.low, axis.high)
    return FloatDistribution(axis.low, axis.high, log=axis.kind == "log")
