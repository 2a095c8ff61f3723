"""Schedulers: whether a trial that stands at the end of a piece of its training goes on.

All are `(space, history, trial, seed, *, numbers...) -> GO, STOP, WAIT`, or a proposal that takes
the trial's place; pure functions of the history, so that a search resumes by replaying its ledger.
The study asks for each trial that has pieces left, and again for those that wait, whenever
something changed, and once for a trial that has just diverged, which a proposal may replace. A
trial that diverged counts as the worst at the piece in which it failed, and not after.
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
    """Every trial is trained to its end."""
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
    """All `trials` train to a rung and wait there for the last; 1 / reduction of them go on.

    Rung i stands after grace * reduction^i pieces, and trials // reduction^(i + 1), at least one,
    leave it (Jamieson and Talwalkar, 2016, https://arxiv.org/abs/1502.07943, algorithm 1).
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
    pieces: int,
) -> Verdict:
    """Brackets of successive halving, from many trials with early rungs to few with none.

    With rungs after grace * reduction^i < pieces, i = 0 ... s_max - 1, the bracket s = s_max ... 0
    has ceil((s_max + 1) / (s + 1) * reduction^s) trials and the last s of the rungs (Li et al.,
    2018, https://arxiv.org/abs/1603.06560, algorithm 1). After the last bracket comes the first.
    """
    rungs = list(_rungs(grace, reduction, pieces - 1))
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
    """At a rung a trial goes on if it is in the best 1 / reduction of those that have come there.

    No one waits: the n-th to come goes on if its rank is at most max(1, n // reduction). This is
    the variant that stops trials; Li et al. (2020, https://arxiv.org/abs/1810.05934, algorithm 2)
    pause them, and promote some of them later. A trial that diverged counts at the rungs that it
    reached, and as the worst at the rung that it failed to reach, as it does there.
    """
    piece = trial.piece
    rungs = list(_rungs(grace, reduction, piece))
    if piece not in rungs:
        return GO
    before = rungs[-2] if len(rungs) > 1 else 0
    failed = [t for t in history if t.end == DIVERGED and before < t.piece < piece]
    there = _scores(history, piece) + [(math.inf, t.number) for t in failed]
    return GO if _rank(there, trial, piece) < max(1, len(there) // reduction) else STOP


def median_rule(
    space: Space,
    history: Sequence[Trial],
    trial: Trial,
    seed: int,
    *,
    grace: int,
    median_trials: int,
) -> Verdict:
    """Stop a trial whose best score is worse than the median of the others' running averages.

    Asked from piece `grace` on, and where at least `median_trials` others have come as far
    (Golovin et al., 2017, section 3.2.2, https://doi.org/10.1145/3097983.3098043). There the others
    are trials that are complete; here lanes train side by side, and would be complete together.
    Trials that diverged are left out.
    """
    piece = trial.piece
    averages = [
        statistics.fmean(_scores_until(other, piece))
        for other in history
        if other.number != trial.number and other.end != DIVERGED and other.reached(piece)
    ]
    if piece < grace or len(averages) < median_trials:
        return GO
    return STOP if min(_scores_until(trial, piece)) > statistics.median(averages) else GO


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
    """Every `grace` pieces a trial of the worst share is replaced by a copy of one of the best.

    The copy takes the weights over and explores: each number is drawn anew with probability
    `resample`, else multiplied or divided by `explore_factor` within its range (Jaderberg et al.,
    2017, https://arxiv.org/abs/1711.09846, section 4.1 and appendix A.1, "truncation selection").
    A trial that diverges is replaced at once. Only trials that share a program copy from each
    other.
    """
    piece, failed = trial.piece, trial.end == DIVERGED
    if piece % grace and not failed:
        return GO
    program = space.static(trial.values)
    peers = [other for other in history if space.static(other.values) == program]
    ranked = _furthest(peers, piece) if failed else _ranked(peers, piece)
    share = max(1, int(exploit_share * len(ranked)))
    worst = {peer.number for peer in ranked[-share:]}
    parents = [peer for peer in ranked[:share] if peer.end == RUNNING]
    stays = not failed and (len(ranked) < 2 * share or trial.number not in worst)
    if stays or not parents:
        return GO
    random = np.random.default_rng((seed, trial.number, piece))
    parent = parents[random.integers(len(parents))]
    values = _explored(parent.values, space, random, explore_factor, resample)
    return Proposal(values, trial.proposal.share, parent.number)


def _ranked(peers: Iterable[Trial], piece: int) -> list[Trial]:
    """Return the peers that run and reached the piece or were replaced at it, the best first."""
    there = [
        peer
        for peer in peers
        if peer.reached(piece)
        and (peer.end == RUNNING or (peer.end == REPLACED and peer.piece == piece))
    ]
    return sorted(there, key=lambda peer: (peer.score_at(piece), peer.number))


def _furthest(peers: Iterable[Trial], piece: int) -> list[Trial]:
    """Return the peers that run: those that reached the piece, then those behind, by score."""

    def place(peer: Trial) -> int:
        return min(peer.piece, piece)

    running = [peer for peer in peers if peer.end == RUNNING and peer.reached(place(peer))]
    return sorted(running, key=lambda peer: (-place(peer), peer.score_at(place(peer)), peer.number))


def _rungs(grace: int, reduction: int, last: float = math.inf) -> Iterator[int]:
    """Where rungs stand: after grace, grace * reduction, grace * reduction^2, ... pieces."""
    piece = grace
    while piece <= last:
        yield piece
        piece *= reduction


def _bracket_size(s_max: int, s: int, reduction: int) -> int:
    """ceil((s_max + 1) / (s + 1) * reduction^s), in whole numbers."""
    return -(-(s_max + 1) * reduction**s // (s + 1))


def _halved(
    history: Sequence[Trial], trial: Trial, members: range, rungs: Iterable[int], reduction: int
) -> Verdict:
    """Successive halving among the trials of these numbers."""
    piece = trial.piece
    rungs = list(itertools.takewhile(lambda rung: rung <= piece, rungs))
    if piece not in rungs:
        return GO
    if len(history) < members.stop:
        return WAIT
    together = [history[number] for number in members]
    if any(other.end == RUNNING and not other.reached(piece) for other in reversed(together)):
        return WAIT
    kept = max(1, len(members) // reduction ** len(rungs))
    return GO if _rank(_scores(together, piece), trial, piece) < kept else STOP


def _scores(history: Iterable[Trial], piece: int) -> list[tuple[float, int]]:
    """Of those that reached the end of the piece: (score, number)."""
    return [(trial.score_at(piece), trial.number) for trial in history if trial.reached(piece)]


def _scores_until(trial: Trial, piece: int) -> list[float]:
    return [trial.score_at(report["piece"]) for report in trial.reports if report["piece"] <= piece]


def _rank(scores: list[tuple[float, int]], trial: Trial, piece: int) -> int:
    """How many are better; of equal ones the first."""
    own = (trial.score_at(piece), trial.number)
    return sum(other < own for other in scores)


def _explored(values: dict, space: Space, random, factor: float, resample: float) -> dict:
    """Return the values with those that are numbers in the program moved, or drawn anew."""
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
    """Return the value of a numeric axis that is closest."""
    value = min(max(value, axis.low), axis.high)
    return round(value) if axis.kind == "integer" else value
