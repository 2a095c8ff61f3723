"""The numbers of a search's report, and its warnings."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from research.reporting.searched import Search
from research.tuning.axes import Axis
from research.tuning.coarse_to_fine import beyond, borders, tried_elsewhere
from research.tuning.results import best, within_one_standard_error
from research.tuning.trials import FINISHED, RUNNING, Trial

TOP = 0.05  # share of the space whose chance is reported
FEWEST_FOR_IMPORTANCES = 20  # finished trials: a tenth of them are the best that are looked at
_RESAMPLES = 500


def band(scores: np.ndarray, quantile: float) -> np.ndarray:
    """Return a quantile of the least of m scores drawn with replacement, for m = 1 ... n: (n,).

    This is the bootstrap of the best so far in closed form: of n sorted scores, the least of m
    draws is above the k-th with probability (1 - k / n)^m.
    """
    count = len(scores)
    draws = np.arange(1, count + 1)
    rank = np.ceil(count * (1 - (1 - quantile) ** (1 / draws)) - 1e-9).astype(int)
    return np.sort(scores)[np.clip(rank, 1, count) - 1]


def band_over_cost(
    scores: np.ndarray, costs: np.ndarray, at: np.ndarray, quantiles: Sequence[float]
) -> np.ndarray:
    """Return quantiles (q, len(at)) of the best so far at each cost, over resampled trials.

    Trials are drawn with replacement, one after the other, each with its cost. A trial counts once
    its cost is spent.

    Args:
      scores: (n,).
      costs: (n,), at least 0.
      at: costs spent, at most the sum of the costs.
      quantiles: between 0 and 1.
    """
    drawn = np.random.default_rng(0).integers(len(scores), size=(_RESAMPLES, 2 * len(scores)))
    curves = np.minimum.accumulate(scores[drawn], axis=1)
    curves = np.concatenate([np.full((_RESAMPLES, 1), np.inf), curves], axis=1)
    spent = np.cumsum(costs[drawn], axis=1)
    slack = 1e-9 * max(1.0, float(costs.sum()))  # of sums in another order
    places = [np.searchsorted(row, at + slack, side="right") for row in spent]
    best_so_far = np.stack([curve[place] for curve, place in zip(curves, places, strict=True)])
    return np.quantile(best_so_far, quantiles, axis=0, method="inverted_cdf")


def chance_of_top(draws: int, top: float = TOP) -> float:
    """Return the chance that the best of some uniform draws is in the best `top` of the space.

    Bergstra and Bengio, 2012, https://jmlr.org/papers/v13/bergstra12a.html.
    """
    return 1 - (1 - top) ** draws


def draws_for(chance: float, top: float = TOP) -> int:
    """Return the fewest draws that have this chance."""
    return math.ceil(math.log(1 - chance) / math.log(1 - top))


def warnings(search: Search) -> list[str]:
    """Return what to be careful about, a line each."""
    leader = best(search.trials)
    if leader is None:
        return []
    lines = [] if search.over else ["The search has not come to its end."]
    if leader.end != FINISHED:
        lines.append(f"No trial was trained to its end; trial {leader.number} came furthest.")
    for key, side in borders(search.space, leader).items():
        axis = search.space.axes[search.space.keys.index(key)]
        if tried_elsewhere(search.space, key, side, search.trials):
            lines.append(_border_warning(axis, leader.values[key], side, leader.number))
        else:
            lines.append(f"All trials lie at the {side} end of {key}: no other value was tried.")
    lines += _noise_warnings(search, leader)
    draws = sum(t.end != RUNNING and t.proposal.parent is None for t in search.trials)
    chance = chance_of_top(draws)
    if search.left < draws_for(0.95):
        if search.left:
            lines.append(f"Points of the space that were not tried: {search.left:,}.")
    elif chance < 0.95:
        lines.append(
            f"Few trials: the best of {draws} random ones is among the best {TOP:.0%} of the space "
            f"with probability {chance:.0%} (1 - {1 - TOP:g}^{draws}); "
            f"{draws_for(0.95)} make it 95%."
        )
    return lines


def _border_warning(axis: Axis, value: float, side: str, number: int) -> str:
    end = axis.low if side == "lower" else axis.high
    line = (
        f"The best trial, {number}, lies at the {side} end of {axis.key}: {value:.4g}, and the "
        f"axis {'begins' if side == 'lower' else 'ends'} at {end:.4g}. "
    )
    return f"{line}{beyond(axis, side).capitalize()}."


def _noise_warnings(search: Search, leader: Trial) -> list[str]:
    if len(search.trials) == 1:
        return []
    if not math.isfinite(leader.reports[-1]["standard_error"]):
        return [
            "Each trial was trained once, so how much of a difference is luck is not known: "
            "config.search.seeds = 3 (or folds) gives each a standard error."
        ]
    near = [
        trial.number for trial in within_one_standard_error(search.trials) if trial is not leader
    ]
    if not near:
        return []
    named = ", ".join(map(str, near[:8])) + (", ..." if len(near) > 8 else "")
    are = "trials are" if len(near) > 1 else "trial is"
    return [
        f"{len(near)} other {are} within one standard error of the best ({named}): which of "
        "them is best, these runs cannot tell."
    ]


def importances(trials: Sequence[Trial], journal: Path) -> dict[str, float]:
    """Return how much each axis decides whether a trial is among the best tenth: shares of 1.

    PED-ANOVA (Watanabe et al., 2023, https://arxiv.org/abs/2304.10255), of the finished trials that
    were trained longest, for scores of other durations do not compare; {} where they are too few,
    where too many of them have the same score, or where there is no journal.

    Args:
      trials: of the search.
      journal: Optuna's, of the same trials.
    """
    compared = {trial.number for trial in longest(trials)}
    if len(compared) < FEWEST_FOR_IMPORTANCES or not journal.exists():
        return {}
    import optuna
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    from research.tuning.optuna_export import STUDY, quietly

    with quietly():
        storage = JournalStorage(JournalFileBackend(str(journal)))
        study = optuna.load_study(study_name=STUDY, storage=storage)
        among = optuna.create_study(direction=study.direction)  # in memory
        among.add_trials([trial for trial in study.get_trials() if trial.number in compared])
        measured = get_param_importances(
            among, evaluator=PedAnovaImportanceEvaluator(), normalize=False
        )
    total = sum(measured.values())
    return {key: share / total for key, share in measured.items()} if total else {}


def longest(trials: Sequence[Trial]) -> list[Trial]:
    """Return the finished trials that trained longest; scores of other durations do not compare."""
    finished = [trial for trial in trials if trial.end == FINISHED]
    segments = max((trial.segments for trial in finished), default=0)
    return [trial for trial in finished if trial.segments == segments]
