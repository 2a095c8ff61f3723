"""Schedulers: who goes on, by their definitions; all are functions of the history alone."""

import copy
import math
import random
import statistics

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.tuning import schedulers
from research.tuning.axes import Axis
from research.tuning.spaces import Space
from research.tuning.trials import (
    DIVERGED,
    FINISHED,
    GO,
    REPLACED,
    STOP,
    STOPPED,
    WAIT,
    Proposal,
    Trial,
)

RATE = Axis("log", "optimizer.learning_rate", 1e-4, 1e-1)
SMOOTHING = Axis("linear", "loss.label_smoothing", 0.0, 0.5)
NAME = Axis("choice", "optimizer.name", values=("adam", "nesterov"))
SPACE = Space((NAME, RATE, SMOOTHING))
VALUES = {
    "optimizer.name": "adam",
    "optimizer.learning_rate": 1e-2,
    "loss.label_smoothing": 0.1,
}


def trial(number: int, *scores: float, end: str = "", segments: int = 27, values=VALUES) -> Trial:
    reports = [{"segment": at, "score": score} for at, score in enumerate(scores, start=1)]
    return Trial(number, Proposal(dict(values)), segments, reports, end)


def train(decide, scores: list[float], segments: int, fails=()) -> list[Trial]:
    """Trains trials of constant scores side by side until no verdict changes anything.

    `fails`: number -> the segment in which a trial diverges; of others that of a NaN is the first.
    """
    fails = dict(fails)
    trials = [trial(number, segments=segments) for number in range(len(scores))]
    waiting: set[int] = set()
    while any(not one.end for one in trials):
        running = [one for one in trials if not one.end and one.number not in waiting]
        for one in running:
            score = math.nan if fails.get(one.number) == one.segment + 1 else scores[one.number]
            one.reports.append({"segment": one.segment + 1, "score": score})
            if math.isnan(score):
                one.end = DIVERGED
            elif one.segment == segments:
                one.end = FINISHED
        for one in trials:
            if one.end or (one not in running and one.number not in waiting):
                continue
            verdict = decide(trials, one)
            waiting -= {one.number}
            if verdict is WAIT:
                waiting.add(one.number)
            elif verdict is STOP:
                one.end = STOPPED
        assert running or not waiting, "all wait for ever"
    return trials


def reached(trials: list[Trial], segment: int) -> int:
    return sum(one.segment >= segment for one in trials)


scores = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=40)


@given(scores, st.integers(2, 4), st.integers(1, 3))
@settings(max_examples=40, deadline=None)
def test_successive_halving_keeps_the_best_of_all_at_each_rung(scores, reduction, grace):
    segments = 20

    def decide(history, one):
        return schedulers.successive_halving(
            SPACE, history, one, 0, reduction=reduction, grace=grace, trials=len(scores)
        )

    trials = train(decide, scores, segments)
    order = sorted(range(len(scores)), key=lambda number: (scores[number], number))
    rung, left = grace, len(scores)
    while rung < segments:
        assert reached(trials, rung) == left
        left = max(1, len(scores) // reduction ** (int(math.log(rung / grace, reduction) + 1.5)))
        assert {one.number for one in trials if one.segment > rung} == set(order[:left])
        rung *= reduction
    assert sum(one.end == FINISHED for one in trials) == left


def test_successive_halving_waits_for_trials_that_have_not_begun():
    numbers = {"reduction": 2, "grace": 1, "trials": 4}
    history = [trial(0, 0.1), trial(1, 0.2), trial(2, 0.3)]
    assert schedulers.successive_halving(SPACE, history, history[0], 0, **numbers) is WAIT
    history.append(trial(3))
    assert schedulers.successive_halving(SPACE, history, history[0], 0, **numbers) is WAIT
    history[3] = trial(3, 0.15)
    verdicts = [schedulers.successive_halving(SPACE, history, t, 0, **numbers) for t in history]
    assert verdicts == [GO, STOP, STOP, GO]
    between = trial(0, 0.1, 0.1, 0.1)  # rungs are at 1, 2, 4, ...
    assert schedulers.successive_halving(SPACE, [between], between, 0, **numbers) is GO


def test_a_trial_that_diverged_is_the_worst_and_is_not_waited_for():
    history = [trial(0, 0.5), trial(1, math.nan, end=DIVERGED), trial(2, 0.9)]
    numbers = {"reduction": 2, "grace": 1}
    verdicts = [
        schedulers.successive_halving(SPACE, history, history[n], 0, trials=3, **numbers)
        for n in (0, 2)
    ]
    assert verdicts == [GO, STOP]
    assert [schedulers.asha(SPACE, history, history[n], 0, **numbers) for n in (0, 2)] == [GO, STOP]
    later = [trial(0, *[0.5] * 4), trial(1, math.nan, end=DIVERGED)]
    rung = {"reduction": 2, "grace": 4, "trials": 2}
    assert schedulers.successive_halving(SPACE, later, later[0], 0, **rung) is GO


def test_hyperband_has_the_brackets_of_its_table():
    """Li et al. (2018), table 1: a reduction of 3 and 81 times the least budget."""
    table = {1: 81, 3: 34, 9: 15, 27: 8, 81: 5}  # trials by the rung that they meet first
    total = sum(table.values())
    trials = train(
        lambda history, one: schedulers.hyperband(
            SPACE, history, one, 0, reduction=3, grace=1, trials=total, segments=81
        ),
        [(number * 37 % total) / total for number in range(total)],
        segments=81,
    )
    first = 0
    for begin, size in table.items():
        bracket = trials[first : first + size]
        for rung, kept in zip(
            [rung for rung in table if rung >= begin],
            [max(1, size // 3**i) for i in range(len(table))],
            strict=False,
        ):
            assert reached(bracket, rung) == kept, (begin, rung)
        first += size


def test_hyperband_begins_again_after_its_last_bracket_and_cuts_the_last():
    def decide(history, one):
        return schedulers.hyperband(
            SPACE, history, one, 0, reduction=3, grace=1, trials=12, segments=3
        )

    trials = train(decide, [float(number) for number in range(12)], segments=3)
    # Brackets of 3 and 2; then 3 and 2; then 2 of 3.
    assert [one.segment for one in trials] == [3, 1, 1, 3, 3, 3, 1, 1, 3, 3, 3, 1]


@given(scores.filter(lambda scores: len(scores) >= 8), st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_asha_side_by_side_lets_one_in_reduction_through(scores, reduction):
    trials = train(
        lambda history, one: schedulers.asha(SPACE, history, one, 0, reduction=reduction, grace=1),
        scores,
        segments=reduction + 1,
    )
    assert reached(trials, 2) == max(1, len(scores) // reduction)


def issues(seed: int = 0, latest: int = 1) -> tuple[list[float], dict[int, int]]:
    """Scores of 81 trials, and when 43 of them diverge."""
    rng = random.Random(seed)
    fails = {number: rng.randint(1, latest) for number in rng.sample(range(81), 43)}
    return [rng.random() for _ in range(81)], fails


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("latest", [1, 2, 3])
@pytest.mark.parametrize("name", ["asha", "successive_halving"])
def test_budgets_are_the_papers_where_half_of_the_trials_diverge(name, latest, seed):
    """Past the rungs after 1, 3 and 9 of 27 segments go 27, 9 and 3 of 81."""
    scores, fails = issues(seed, latest)
    numbers = {"reduction": 3, "grace": 1} | ({} if name == "asha" else {"trials": 81})

    def decide(history, one):
        return getattr(schedulers, name)(SPACE, history, one, 0, **numbers)

    trials = train(decide, scores, 27, fails)
    assert [reached(trials, rung + 1) for rung in (1, 3, 9)] == [27, 9, 3]
    assert sum(one.end == FINISHED for one in trials) == 3
    best = sorted(scores[n] for n in range(81) if n not in fails)
    assert min(one.score for one in trials if one.end == FINISHED) == best[0]


@given(st.integers(6, 30), st.integers(2, 4), st.data())
@settings(max_examples=40, deadline=None)
def test_a_trial_counts_at_the_rungs_it_came_to_and_where_it_failed(count, reduction, data):
    """By its definition: one that fails on its way to a rung has the worst score there."""
    segments = reduction**3 + 1
    history: list[Trial] = []
    for number in range(count):
        length = data.draw(st.integers(1, segments))
        scores = [float(data.draw(st.integers(0, 5)))] * length
        end = data.draw(st.sampled_from((STOPPED, DIVERGED, FINISHED)))
        history.append(trial(number, *scores, end=end, segments=segments))
    for rung in (1, reduction, reduction**2, reduction**3):
        own = float(data.draw(st.integers(0, 3)))
        one = trial(count, *[own] * rung, segments=segments)
        there = [
            math.inf if other.end == DIVERGED and other.segment <= rung else other.score
            for other in history
            if other.segment >= rung or (other.end == DIVERGED and other.segment > rung / reduction)
        ]
        rank = sum(score <= own for score in there)
        verdict = schedulers.asha(SPACE, [*history, one], one, 0, reduction=reduction, grace=1)
        assert verdict is (GO if rank < max(1, (len(there) + 1) // reduction) else STOP)


def test_the_median_rule_stops_bad_trials_where_half_of_all_diverge():
    scores, fails = issues()
    numbers = {"grace": 1, "median_trials": 5}

    def decide(history, one):
        return schedulers.median_rule(SPACE, history, one, 0, **numbers)

    trials = train(decide, scores, 27, fails)
    sound = [one for one in trials if one.end != DIVERGED]
    median = statistics.median(one.score for one in sound)
    assert {one.number for one in sound if one.end == STOPPED and one.segment == 1} == {
        one.number for one in sound if one.score > median
    }
    # Whenever they fail: what a trial had before it diverged is compared with as little.
    late = [trial(n, 0.1, 0.1, math.nan, end=DIVERGED) for n in range(9)]
    history = [*late, *[trial(9 + n, 0.5 + n / 10, 0.5) for n in range(6)]]
    verdicts = [schedulers.median_rule(SPACE, history, t, 0, **numbers) for t in history[9:]]
    assert verdicts == [GO] * 6


@given(st.permutations(range(40)), st.integers(2, 4))
@settings(max_examples=20, deadline=None)
def test_asha_goes_by_the_rank_among_those_that_came_before(scores, reduction):
    history = []
    for number, score in enumerate(scores):
        history.append(trial(number, float(score)))
        verdict = schedulers.asha(SPACE, history, history[-1], 0, reduction=reduction, grace=1)
        rank = sorted(scores[: number + 1]).index(score) + 1
        assert verdict is (GO if rank <= max(1, (number + 1) // reduction) else STOP)


def test_asha_in_random_order_lets_the_share_through():
    rng = random.Random(0)
    passed = 0
    for _ in range(20):
        history = []
        for number in range(90):
            history.append(trial(number, rng.random()))
            passed += schedulers.asha(SPACE, history, history[-1], 0, reduction=3, grace=1) is GO
    expected = sum(max(1, n // 3) / n for n in range(1, 91))
    assert abs(passed / 20 - expected) < 3 * math.sqrt(90 * 2 / 9 / 20)


@given(
    st.lists(st.lists(st.integers(0, 9).map(float), min_size=3, max_size=3), min_size=1),
    st.lists(st.integers(0, 9).map(float), min_size=3, max_size=3),
)
@settings(max_examples=60, deadline=None)
def test_the_median_rule_is_its_definition(others, own):
    history = [trial(number, *scores) for number, scores in enumerate(others)]
    one = trial(len(others), *own)
    verdict = schedulers.median_rule(SPACE, [*history, one], one, 0, grace=2, median_trials=1)
    median = statistics.median([sum(scores) / 3 for scores in others])
    # Sums of whole numbers: means differ from the median by a third, or not at all.
    assert verdict is (STOP if min(own) > median + 1e-9 else GO)


def test_the_median_rule_looks_at_what_others_had_at_the_same_piece():
    history = [trial(0, 1.0, 0.0, 0.0), trial(1, 2.0)]
    numbers = {"grace": 1, "median_trials": 1}
    assert schedulers.median_rule(SPACE, history, history[1], 0, **numbers) is STOP
    assert schedulers.median_rule(SPACE, history, history[0], 0, **numbers) is GO  # none so far
    late = {"grace": 2, "median_trials": 1}
    assert schedulers.median_rule(SPACE, history, history[1], 0, **late) is GO
    few = {"grace": 1, "median_trials": 2}
    assert schedulers.median_rule(SPACE, history, history[1], 0, **few) is GO


PBT = {"grace": 2, "exploit_share": 0.25, "explore_factor": 1.2, "resample": 0.0}


def population(count: int, segments: int = 2) -> list[Trial]:
    """Trial i has the score i."""
    return [trial(number, *[float(number)] * segments) for number in range(count)]


def test_the_worst_share_copies_from_the_best():
    history = population(8)
    for one in history:
        verdict = schedulers.population_based(SPACE, history, one, 0, **PBT)
        if one.number < 6:
            assert verdict is GO
        else:
            assert verdict.parent in (0, 1) and verdict.share == 1.0
    before = [trial(number, float(number)) for number in range(8)]
    assert schedulers.population_based(SPACE, before, before[7], 0, **PBT) is GO


def test_exploring_moves_numbers_by_a_factor_within_their_range_and_nothing_else():
    history = population(8)
    seen = set()
    for seed in range(20):
        values = schedulers.population_based(SPACE, history, history[7], seed, **PBT).values
        assert values["optimizer.name"] == "adam"
        ratio = values["optimizer.learning_rate"] / VALUES["optimizer.learning_rate"]
        assert min(abs(ratio - 1.2), abs(ratio - 1 / 1.2)) < 1e-9
        seen.add(ratio > 1)
    assert seen == {True, False}
    for one in history:
        one.values["optimizer.learning_rate"] = 1e-1
    far = {**PBT, "explore_factor": 3.0}
    for seed in range(20):
        values = schedulers.population_based(SPACE, history, history[7], seed, **far).values
        assert 1e-4 <= values["optimizer.learning_rate"] <= 1e-1
    anew = {**PBT, "resample": 1.0}
    drawn = [
        schedulers.population_based(SPACE, history, history[7], seed, **anew).values
        for seed in range(20)
    ]
    assert all(RATE.holds(values["optimizer.learning_rate"]) for values in drawn)
    assert len({values["loss.label_smoothing"] for values in drawn}) == 20


def lost(number: int, segment: int) -> Trial:
    return trial(number, *[0.0] * (segment - 1), math.nan, end=DIVERGED)


@pytest.mark.parametrize("segment", [1, 2, 3])
def test_a_diverged_trial_is_replaced_at_once_by_a_copy_of_a_good_one(segment):
    """Whatever segment it failed in; and those it leaves behind do not get in the way of others."""
    history = [*population(8, segment), *[lost(8 + n, segment) for n in range(7)]]
    for one in history[8:]:
        verdict = schedulers.population_based(SPACE, history, one, 0, **PBT)
        assert verdict.parent in (0, 1) and verdict.values != VALUES
    if segment == 2:
        verdicts = [schedulers.population_based(SPACE, history, one, 0, **PBT) for one in history]
        assert [verdict is GO for verdict in verdicts[:8]] == [True] * 6 + [False] * 2


def test_a_diverged_trial_has_no_copy_where_none_runs_that_it_could_be_of():
    def verdict(*others):
        history = [lost(0, 3), *others]
        return schedulers.population_based(SPACE, history, history[0], 0, **PBT)

    assert verdict() is GO and verdict(trial(1)) is GO  # which has not begun
    assert verdict(trial(1, *[0.1] * 3, end=FINISHED)) is GO
    other = trial(1, *[0.1] * 3)
    other.values["optimizer.name"] = "nesterov"
    assert verdict(other) is GO
    assert verdict(trial(1, *[0.9] * 3)).parent == 1
    # Of those behind it the one that came furthest; of those ahead what they had then.
    assert verdict(trial(1, 0.1), trial(2, 0.9, 0.9)).parent == 2
    assert verdict(trial(1, 0.1, 0.1), trial(2, 0.9, 0.9, 0.9)).parent == 2
    assert verdict(trial(1, 0.5, 0.5, 0.5), trial(2, 0.1, 0.1, 0.9, 0.1)).parent == 1


MOVING = Space(
    (
        Axis("integer", "loss.l1", 0, 50),
        Axis("linear", "loss.l2", 0.0, 0.5),
        Axis("linear", "loss.label_smoothing", -1.0, 1.0),
        Axis("log", "optimizer.learning_rate", 1e-4, 1e-1),
    )
)


@given(
    st.integers(0, 50),
    st.sampled_from((0.0, 0.1, 0.5)),
    st.sampled_from((-1.0, -0.2, 0.0, 1.0)),
    st.floats(1.01, 4.0),
)
@settings(max_examples=40, deadline=None)
def test_every_number_can_move(whole, zero, signed, factor):
    """Whole numbers by one at least, zeros too, both ways unless at an end; to values in range."""
    values = dict(zip(MOVING.keys, (whole, zero, signed, 1e-2), strict=True))
    history = [trial(number, float(number), float(number), values=values) for number in range(8)]
    numbers = {**PBT, "explore_factor": factor}
    seen = {key: set() for key in values}
    for seed in range(24):
        verdict = schedulers.population_based(MOVING, history, history[7], seed, **numbers)
        MOVING.check(verdict.values, "here")
        for key, value in verdict.values.items():
            seen[key].add(value)
    for axis in MOVING.axes:
        was = values[axis.key]
        assert any(value < was for value in seen[axis.key]) or was == axis.low
        assert any(value > was for value in seen[axis.key]) or was == axis.high
        if axis.kind == "integer" and was * (factor - 1) > 2 and was * factor < 50:
            assert max(seen[axis.key]) == round(was * factor)
    still = {**PBT, "explore_factor": 1.0}
    assert schedulers.population_based(MOVING, history, history[7], 0, **still).values == values


def test_copies_are_of_trials_that_run_in_the_same_program():
    history = population(8)
    history[0].end = FINISHED
    history[1].values["optimizer.name"] = "nesterov"
    verdict = schedulers.population_based(SPACE, history, history[7], 0, **PBT)
    assert verdict.parent == 2
    # Who was judged before does not change who comes after.
    history = population(8)
    expected = schedulers.population_based(SPACE, history, history[7], 0, **PBT)
    history[6].end = REPLACED
    history.append(trial(8))
    assert schedulers.population_based(SPACE, history, history[7], 0, **PBT) == expected
    # One that was replaced before others came so far is compared with, and no parent.
    history = population(8)
    history[0].end = REPLACED
    assert schedulers.population_based(SPACE, history, history[7], 0, **PBT).parent == 1
    history[1].end = REPLACED
    assert schedulers.population_based(SPACE, history, history[7], 0, **PBT) is GO
    alone = population(1)
    assert schedulers.population_based(SPACE, alone, alone[0], 0, **PBT) is GO


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("none", {}),
        ("successive_halving", {"reduction": 2, "grace": 1, "trials": 6}),
        ("hyperband", {"reduction": 2, "grace": 1, "trials": 6, "segments": 4}),
        ("asha", {"reduction": 2, "grace": 1}),
        ("median_rule", {"grace": 1, "median_trials": 1}),
        ("population_based", PBT),
    ],
)
def test_schedulers_are_functions_of_the_history(name, numbers):
    history = population(6)
    before = copy.deepcopy(history)
    scheduler = getattr(schedulers, name)
    first = [scheduler(SPACE, history, one, 7, **numbers) for one in history]
    assert first == [scheduler(SPACE, history, one, 7, **numbers) for one in history]
    assert history == before
