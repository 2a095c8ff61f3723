"""Schedulers: whether a trial continues after a segment of its training.

A scheduler is a pure function of the history, so that a search resumes by replaying its ledger:
`(space, history, trial, seed, *, numbers...) -> verdict`. The verdict is GO, STOP, WAIT, or a
proposal that replaces the trial. The study asks after each segment of a trial that has segments
left; for waiting trials, after every change; and once for a trial that has just diverged, which a
proposal may replace. A diverged trial counts as the worst at the segment where it failed, and does
not count after it.
"""

import itertools
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from research.tuning.axes import Axis
from research.tuning.spaces import Space
from research.tuning.trials import (
    DIVERGED,
    GO,
    REPLACED,
    RUNNING,
    STOP,
    WAIT,
    Proposal,
    Trial,
    Verdict,
)


def none(space: Space, history: Sequence[Trial], trial: Trial, seed: int) -> Verdict:
    """Train every trial to its end."""
    return GO


def successive_halving(
    space: Space,
    history: Sequence[Trial],
    trial: Trial,
    seed: int,
    *,
    reduction: int,
    grace: int,
    trials: int,
) -> Verdict:
    """Train all `trials` to a rung, wait for the last one, and continue the best 1 / reduction.

    Rung i is after grace * reduction^i segments, and trials // reduction^(i + 1), at least one,
    continue (Jamieson and Talwalkar, 2016, https://arxiv.org/abs/1502.07943, algorithm 1).
    """
    return _halved(history, trial, range(trials), _rungs(grace, reduction), reduction)


def hyperband(
    space: Space,
    history: Sequence[Trial],
    trial: Trial,
    seed: int,
    *,
    reduction: int,
    grace: int,
    trials: int,
    segments: int,
) -> Verdict:
    """Run brackets of successive halving, from many trials with early rungs to few with none.

    Rungs are after grace * reduction^i < segments, i = 0 ... s_max - 1. The bracket s = s_max ... 0
    has ceil((s_max + 1) / (s + 1) * reduction^s) trials and the last s of the rungs (Li et al.,
    2018, https://arxiv.org/abs/1603.06560, algorithm 1). After the last bracket the first follows.
    """
    rungs = list(_rungs(grace, reduction, segments - 1))
    first = 0
    while True:
        for skipped in range(len(rungs) + 1):
            size = _bracket_size(len(rungs), len(rungs) - skipped, reduction)
            members = range(first, min(first + size, trials))
            if trial.number in members:
                return _halved(history, trial, members, rungs[skipped:], reduction)
            first += size


def asha(
    space: Space,
    history: Sequence[Trial],
    trial: Trial,
    seed: int,
    *,
    reduction: int,
    grace: int,
) -> Verdict:
    """Continue a trial from a rung if it is in the best 1 / reduction of those that reached it.

    No trial waits: the n-th to arrive continues if its rank is at most max(1, n // reduction). This
    variant stops the others; Li et al. (2020, https://arxiv.org/abs/1810.05934, algorithm 2) pause
    them, and promote some of them later. As in the paper, a diverged trial counts at the rungs that
    it reached, and as the worst at the next one.
    """
    segment = trial.segment
    rungs = list(_rungs(grace, reduction, segment))
    if segment not in rungs:
        return GO
    before = rungs[-2] if len(rungs) > 1 else 0
    failed = [t for t in history if t.end == DIVERGED and before < t.segment < segment]
    scores = _scores(history, segment) + [(math.inf, t.number) for t in failed]
    return GO if _rank(scores, trial, segment) < max(1, len(scores) // reduction) else STOP


def median_rule(
    space: Space,
    history: Sequence[Trial],
    trial: Trial,
    seed: int,
    *,
    grace: int,
    median_trials: int,
) -> Verdict:
    """Stop a trial whose best score is worse than the median of others' running averages.

    It applies from segment `grace` on, and if at least `median_trials` others came as far (Golovin
    et al., 2017, section 3.2.2, https://doi.org/10.1145/3097983.3098043). The paper compares with
    complete trials; here lanes train side by side and complete together. Diverged trials do not
    count.
    """
    segment = trial.segment
    averages = [
        statistics.fmean(_scores_until(other, segment))
        for other in history
        if other.number != trial.number and other.end != DIVERGED and other.reached(segment)
    ]
    if segment < grace or len(averages) < median_trials:
        return GO
    return STOP if min(_scores_until(trial, segment)) > statistics.median(averages) else GO


def population_based(
    space: Space,
    history: Sequence[Trial],
    trial: Trial,
    seed: int,
    *,
    grace: int,
    exploit_share: float,
    explore_factor: float,
    resample: float,
) -> Verdict | Proposal:
    """Replace a trial of the worst share by a copy of one of the best, every `grace` segments.

    The copy inherits the weights. Each of its numbers is drawn anew with probability `resample`,
    otherwise multiplied or divided by `explore_factor` within its range (Jaderberg et al., 2017,
    https://arxiv.org/abs/1711.09846, section 4.1 and appendix A.1, "truncation selection"). A
    diverged trial is replaced at once. Trials copy only from trials with the same static choices.
    """
    segment, failed = trial.segment, trial.end == DIVERGED
    if segment % grace and not failed:
        return GO
    static = space.static(trial.values)
    peers = [other for other in history if space.static(other.values) == static]
    ranked = _furthest(peers, segment) if failed else _ranked(peers, segment)
    share = max(1, int(exploit_share * len(ranked)))
    worst = {peer.number for peer in ranked[-share:]}
    parents = [peer for peer in ranked[:share] if peer.end == RUNNING]
    stays = not failed and (len(ranked) < 2 * share or trial.number not in worst)
    if stays or not parents:
        return GO
    random = np.random.default_rng((seed, trial.number, segment))
    parent = parents[random.integers(len(parents))]
    values = _explored(parent.values, space, random, explore_factor, resample)
    return Proposal(values, trial.proposal.share, parent.number)


def _ranked(peers: Iterable[Trial], segment: int) -> list[Trial]:
    """Return the peers that run and reached the segment or were replaced at it, the best first."""
    ranked = [
        peer
        for peer in peers
        if peer.reached(segment)
        and (peer.end == RUNNING or (peer.end == REPLACED and peer.segment == segment))
    ]
    return sorted(ranked, key=lambda peer: (peer.score_at(segment), peer.number))


def _furthest(peers: Iterable[Trial], segment: int) -> list[Trial]:
    """Return the peers that run: those that reached the segment, then those behind, by score."""

    def place(peer: Trial) -> int:
        return min(peer.segment, segment)

    running = [peer for peer in peers if peer.end == RUNNING and peer.reached(place(peer))]
    return sorted(running, key=lambda peer: (-place(peer), peer.score_at(place(peer)), peer.number))


def _rungs(grace: int, reduction: int, last: float = math.inf) -> Iterator[int]:
    """Yield the segments of rungs: grace, grace * reduction, grace * reduction^2, ..."""
    segment = grace
    while segment <= last:
        yield segment
        segment *= reduction


def _bracket_size(s_max: int, s: int, reduction: int) -> int:
    """Return ceil((s_max + 1) / (s + 1) * reduction^s), in integer arithmetic."""
    return -(-(s_max + 1) * reduction**s // (s + 1))


def _halved(
    history: Sequence[Trial], trial: Trial, members: range, rungs: Iterable[int], reduction: int
) -> Verdict:
    """Apply successive halving to the trials with these numbers."""
    segment = trial.segment
    rungs = list(itertools.takewhile(lambda rung: rung <= segment, rungs))
    if segment not in rungs:
        return GO
    if len(history) < members.stop:
        return WAIT
    together = [history[number] for number in members]
    if any(other.end == RUNNING and not other.reached(segment) for other in reversed(together)):
        return WAIT
    kept = max(1, len(members) // reduction ** len(rungs))
    return GO if _rank(_scores(together, segment), trial, segment) < kept else STOP


def _scores(history: Iterable[Trial], segment: int) -> list[tuple[float, int]]:
    """Return (score, number) of the trials that reached the segment."""
    return [(trial.score_at(segment), trial.number) for trial in history if trial.reached(segment)]


def _scores_until(trial: Trial, segment: int) -> list[float]:
    return [
        trial.score_at(report["segment"])
        for report in trial.reports
        if report["segment"] <= segment
    ]


def _rank(scores: list[tuple[float, int]], trial: Trial, segment: int) -> int:
    """Return how many trials are better; of equal trials the first is better."""
    own = (trial.score_at(segment), trial.number)
    return sum(score < own for score in scores)


def _explored(values: dict, space: Space, random, factor: float, resample: float) -> dict:
    """Return the values with each traced number moved or drawn anew."""
    explored = dict(values)
    for axis, place in zip(space.axes, random.random(space.size), strict=True):
        if axis.key not in values or not space.is_traced(axis.key):
            continue
        step = factor ** random.choice((-1, 1))
        if random.random() < resample:
            explored[axis.key] = axis.decode(place)
        elif axis.kind != "choice":
            explored[axis.key] = _nearest(axis, _moved(axis, values[axis.key], step))
    return explored


def _moved(axis: Axis, value: float, step: float) -> float:
    """Return the value times the step.

    No factor moves a zero, so a zero moves by as much as the end of its axis would. A whole number
    moves by at least 1.
    """
    if value:
        moved = value * step
    else:
        moved = axis.high * (1 - 1 / step) if step > 1 else axis.low * (1 - step)
    if axis.kind == "integer" and moved != value and round(moved) == value:
        return value + (1 if moved > value else -1)
    return moved


def _nearest(axis: Axis, value: float) -> float:
    """Return the closest value of a numeric axis."""
    value = min(max(value, axis.low), axis.high)
    return round(value) if axis.kind == "integer" else value
