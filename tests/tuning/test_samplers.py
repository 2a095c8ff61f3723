"""Samplers: what all of them keep to, and what each is; coarse to fine and its boxes."""

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest
from scipy.stats import qmc

from research.errors import UserError
from research.names import public_functions
from research.tuning import acquisition as acquisitions
from research.tuning import methods, samplers
from research.tuning.axes import Axis
from research.tuning.config import default_search
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, FINISHED, RUNNING, STOPPED, Proposal, Trial

# Conditional, with each kind of axis; the samplers know nothing of configs.
MIXED = Space(
    (
        Axis("log", "rate", 1e-4, 1.0),
        Axis("choice", "rule", values=("sgd", "momentum", "adam")),
        Axis("linear", "momentum", 0.0, 0.99, when=("rule", "momentum")),
        Axis("integer", "layers", 1, 4),
        Axis("choice", "width", values=((8,), (8, 8))),
    )
)
SQUARE = Space((Axis("linear", "x", -1.0, 1.0), Axis("linear", "y", -1.0, 1.0)))
METHODS = sorted(public_functions(samplers))


def sampler(method, **numbers):
    search = default_search()
    search.method = method
    search.update(numbers)
    return methods.from_config(search)


def trial(number, proposal, score, end=FINISHED):
    reports = [] if end == RUNNING else [{"segment": 1, "score": score}]
    return Trial(number, proposal, 1, reports, end)


def loss(values):
    """Least at rate 0.01, momentum 0.5."""
    return (
        (math.log10(values["rate"]) + 2) ** 2
        + (values.get("momentum", 0.0) - 0.5) ** 2
        + abs(values["layers"] - 3)
    )


def history(length, space=MIXED, score=loss, seed=0):
    proposals = samplers.random(space, [], length, seed)
    return [trial(n, proposal, score(proposal.values)) for n, proposal in enumerate(proposals)]


def mixed_fates(length):
    """Some diverged, were stopped, reported nonsense, or still run."""
    trials = history(length)
    for number in range(0, length, 5):
        trials[number] = trial(number, trials[number].proposal, math.inf, DIVERGED)
    trials[1] = trial(1, trials[1].proposal, 1e30, STOPPED)
    trials[2] = trial(2, trials[2].proposal, math.nan)
    for number in (3, length - 1):
        trials[number] = trial(number, trials[number].proposal, math.nan, RUNNING)
    return trials


@pytest.mark.parametrize("method", METHODS)
class TestEachSampler:
    def test_proposes_points_of_the_space(self, method):
        trials = mixed_fates(14)
        proposals = sampler(method, round_trials=32)(MIXED, trials, 4, 0)
        assert len(proposals) == 4
        for proposal in proposals:
            MIXED.check(proposal.values, "here")
            assert 0 < proposal.share <= 1 and proposal.parent is None
            assert json.loads(json.dumps(proposal.values)) == {
                key: list(value) if isinstance(value, tuple) else value
                for key, value in proposal.values.items()
            }

    def test_is_a_function_of_the_history_alone(self, method):
        propose, trials = sampler(method, round_trials=32), mixed_fates(14)
        before = [dict(trial.values) for trial in trials]
        first = propose(MIXED, trials, 3, 7)
        np.random.seed(1)  # noqa: NPY002
        samplers.random(MIXED, trials, 3, 7)
        assert sampler(method, round_trials=32)(MIXED, trials, 3, 7) == first
        assert [trial.values for trial in trials] == before

    def test_works_from_the_first_trial_on_and_without_any_score(self, method):
        propose = sampler(method, round_trials=32)
        assert len(propose(MIXED, [], 5, 0)) == 5
        running = [trial(n, p, math.nan, RUNNING) for n, p in enumerate(propose(MIXED, [], 5, 0))]
        assert len(propose(MIXED, running, 2, 0)) == 2
        diverged = [trial(t.number, t.proposal, math.nan, DIVERGED) for t in running]
        assert len(propose(MIXED, diverged, 2, 0)) == 2
        assert propose(MIXED, diverged, 0, 0) == []

    def test_one_axis_is_enough(self, method):
        space = Space((Axis("log", "rate", 1e-4, 1.0),))
        trials = history(10, space, lambda values: values["rate"])
        assert len(sampler(method, grid_points=30, round_trials=32)(space, trials, 3, 0)) == 3


@pytest.mark.parametrize("method", ["random", "sobol", "tpe", "cmaes"])
def test_a_batch_is_what_one_after_the_other_would_be(method):
    """So lanes that become free at other times change no point, as long as no score came."""
    propose, trials = sampler(method), mixed_fates(14)
    together = propose(MIXED, trials, 3, 0)
    for proposal in together:
        assert propose(MIXED, trials, 1, 0) == [proposal]
        trials = [*trials, trial(len(trials), proposal, math.nan, RUNNING)]


@pytest.mark.parametrize("acquisition", sorted(public_functions(acquisitions)))
def test_batches_of_each_acquisition_are_of_the_space_and_distinct(acquisition):
    propose, trials = sampler("bayes", acquisition=acquisition), mixed_fates(24)
    points = [proposal.values for proposal in propose(MIXED, trials, 8, 0)]
    for point in points:
        MIXED.check(point, "here")
    assert len({repr(point) for point in points}) == 8
    assert not {repr(point) for point in points} & {repr(trial.values) for trial in trials}


def test_grid_is_every_combination_once():
    propose, trials = sampler("grid", grid_points=3), []
    while proposals := propose(MIXED, trials, 7, 0):
        trials += [trial(len(trials) + n, p, 0.0) for n, p in enumerate(proposals)]
    values = [trial.values for trial in trials]
    rates, layers, widths = (1e-4, 1e-2, 1.0), (1, 2.5, 4), ((8,), (8, 8))
    rules = ["sgd", "adam", *itertools.product(["momentum"], (0.0, 0.495, 0.99))]
    assert len(values) == len(rates) * len(rules) * len(layers) * len(widths)
    assert len({repr(sorted(point.items())) for point in values}) == len(values)
    assert {point["layers"] for point in values} == {1, 2, 4}
    assert sorted({point["rate"] for point in values}) == pytest.approx(rates)
    assert {point.get("momentum") for point in values} == {None, 0.0, 0.495, 0.99}


def test_a_grid_that_is_larger_than_its_budget_is_tried_all_over():
    """A third of 81 points: nine trials at each value of each axis, and all pairs of values."""
    space = Space(tuple(Axis("log", key, 1e-4, 1.0) for key in "abcd"))
    points = [proposal.values for proposal in sampler("grid")(space, [], 27, 0)]
    for key in "abcd":
        values = [point[key] for point in points]
        assert sorted(values) == sorted(9 * [1e-4, space.axes[0].decode(0.5), 1.0])
    for first, second in itertools.combinations("abcd", 2):
        assert len({(point[first], point[second]) for point in points}) == 9
    assert points != [proposal.values for proposal in sampler("grid")(space, [], 27, 1)]
    trials = [trial(n, Proposal(values), 0.0) for n, values in enumerate(points[:10])]
    assert [p.values for p in sampler("grid")(space, trials, 17, 0)] == points[10:]


def test_a_grid_of_one_point_is_in_the_middle():
    space = Space((Axis("log", "x", 1e-4, 1.0), Axis("integer", "y", 1, 4)))
    (proposal,) = sampler("grid", grid_points=1)(space, [], 5, 0)
    assert proposal.values == {"x": pytest.approx(1e-2), "y": 2}
    search, trials = search_in_rounds(space, lambda v: v["x"], round_method="grid", grid_points=1)
    assert len(trials) == 3 and not any(
        one.borders for one in methods.rounds(search, space, trials)
    )


def test_grid_leaves_out_what_was_tried_by_hand_and_nothing_else():
    by_hand = [Proposal({"x": -1.0, "y": 1.0}), Proposal({"x": 0.3, "y": 0.3})]
    trials = [trial(n, proposal, 0.0) for n, proposal in enumerate(by_hand)]
    proposals = sampler("grid", grid_points=3)(SQUARE, trials, 100, 0)
    assert len(proposals) == 8 and by_hand[0] not in proposals


def test_sobol_is_scipys():
    proposals = sampler("sobol")(SQUARE, [], 4, 5)
    trials = [trial(n, proposal, 0.0) for n, proposal in enumerate(proposals)]
    proposals += sampler("sobol")(SQUARE, trials, 12, 5)
    ours = [list(proposal.values.values()) for proposal in proposals]
    np.testing.assert_allclose(ours, 2 * qmc.Sobol(2, rng=5).random(16) - 1, atol=1e-12)


def test_random_is_uniform_and_other_seeds_are_other_points():
    points = [SQUARE.encode(p.values) for p in samplers.random(SQUARE, [], 2000, 0)]
    np.testing.assert_allclose(np.mean(points, 0), 0.5, atol=0.03)
    np.testing.assert_allclose(np.cov(np.transpose(points)), np.eye(2) / 12, atol=0.01)
    assert samplers.random(SQUARE, [], 1, 0) != samplers.random(SQUARE, [], 1, 1)


def searched(method, total, batch, score, space=SQUARE, seed=0, **numbers):
    propose, trials = sampler(method, **numbers), []
    while len(trials) < total:
        for proposal in propose(space, trials, batch, seed):
            trials.append(trial(len(trials), proposal, score(proposal.values)))
    return trials


def bowl(values):
    return (values["x"] - 0.3) ** 2 + 4 * (values["y"] + 0.6) ** 2


@pytest.mark.parametrize(
    ("method", "total", "tolerance", "numbers"),
    [
        ("tpe", 60, 0.8, {}),
        ("cmaes", 120, 0.5, {}),
        ("bayes", 24, 0.01, {}),
        ("bayes", 24, 0.01, {"acquisition": "upper_confidence_bound"}),
        ("coarse_to_fine", 60, 0.8, {}),
        ("coarse_to_fine", 60, 0.8, {"round_method": "bayes"}),
    ],
)
def test_what_learns_beats_what_does_not(method, total, tolerance, numbers):
    def least(name, seed, **numbers):
        return min(t.score for t in searched(name, total, 6, bowl, seed=seed, **numbers))

    ours = np.median([least(method, seed, **numbers) for seed in range(3)])
    blind = np.median([least("random", seed) for seed in range(3)])
    assert ours < tolerance * blind


def overfitting(short, whole):
    """Trials stopped after 1 of 9 segments, and finished ones, whose losses have risen since."""
    trials = []
    for x, y in short + whole:
        segments, end = (1, STOPPED) if (x, y) in short else (9, FINISHED)
        reports = [{"segment": segment, "score": segment + x} for segment in range(1, segments + 1)]
        trials.append(Trial(len(trials), Proposal({"x": x, "y": y}), 9, reports, end))
    return trials


def test_tpe_takes_a_trial_that_was_stopped_for_worse_than_a_finished_one():
    """As Optuna does with what it pruned: the last scores are of trainings of other lengths."""
    short = [(-0.9 + 0.02 * n, -0.5 + 0.04 * n) for n in range(24)]
    trials = overfitting(short, [(0.5 + 0.01 * n, 0.5) for n in range(6)])
    assert max(trial.score for trial in trials[:24]) < min(trial.score for trial in trials[24:])
    proposed = [proposal.values["x"] for proposal in sampler("tpe")(SQUARE, trials, 16, 0)]
    assert np.median(proposed) > 0.3


def test_the_best_of_a_round_is_one_that_was_trained_to_its_end():
    trials = overfitting([(-0.5, 0.1 * n) for n in range(7)], [(0.5, 0.1), (0.4, 0.2), (0.6, 0.3)])
    search = default_search()
    search.update({"method": "coarse_to_fine", **ROUNDS, "round_trials": 10})
    first, second = methods.rounds(search, SQUARE, trials)
    assert first.best is trials[8] and second.box["x"] == pytest.approx((-0.1, 0.9))


def test_copies_of_other_trials_belong_to_no_round():
    trials = overfitting([(-0.5, 0.1 * n) for n in range(7)], [(0.5, 0.1), (0.4, 0.2), (0.6, 0.3)])
    copies = [Trial(n, Proposal({"x": 0.0, "y": 0.0}, parent=8), 9, [], RUNNING) for n in (3, 9)]
    search = default_search()
    search.update({"method": "coarse_to_fine", **ROUNDS, "round_trials": 5})
    found = methods.rounds(search, SQUARE, trials[:3] + copies + trials[3:])
    assert found == methods.rounds(search, SQUARE, trials)


def test_bayes_tries_no_point_twice_before_it_has_tried_all():
    """The same numbers train to the same score."""
    space = Space((Axis("choice", "rule", values=("a", "b", "c")), Axis("integer", "x", 1, 6)))
    first = sampler("grid", grid_points=6)(space, [], 8, 0)
    trials = [trial(n, one, (one.values["x"] - 4) ** 2) for n, one in enumerate(first)]
    while len(trials) < 18:
        for one in sampler("bayes")(space, trials, 2, 0):
            trials.append(trial(len(trials), one, (one.values["x"] - 4) ** 2))
    assert len({tuple(one.values.values()) for one in trials}) == 18
    assert sampler("bayes")(space, trials, 2, 0) == []


def test_tpe_takes_axes_together():
    """What is good on x = y is proposed there: of axes drawn one by one nothing would be known."""
    valley = lambda values: abs(values["x"] - values["y"])  # noqa: E731
    proposals = sampler("tpe")(SQUARE, history(60, SQUARE, valley), 60, 0)
    x, y = np.transpose([list(proposal.values.values()) for proposal in proposals])
    assert np.corrcoef(x, y)[0, 1] > 0.5


def test_tpe_keeps_away_from_trials_that_run():
    trials = history(120, SQUARE, bowl)
    place = min(trials, key=lambda one: one.score).values
    running = [trial(120 + n, Proposal(place), math.nan, RUNNING) for n in range(8)]
    alone, beside = (
        np.mean([math.dist(p.values.values(), place.values()) for p in proposals])
        for proposals in (
            [sampler("tpe")(SQUARE, known, 1, seed)[0] for seed in range(24)]
            for known in (trials, trials + running)
        )
    )
    assert beside > 1.3 * alone  # 1.66; 1.08 where those that run are left out


def test_cmaes_starts_anew_where_it_has_converged():
    trials = searched("cmaes", 720, 6, bowl)
    converged = next(trial.number for trial in trials if trial.score < 1e-12)
    later = np.array([SQUARE.encode(trial.values) for trial in trials[converged:]])
    assert np.ptp(later, axis=0).min() > 0.3


ROUNDS = {"rounds": 3, "round_trials": 20, "round_shares": (0.25, 0.5, 1.0), "shrink": 0.5}


def search_in_rounds(space, score, total=60, seed=0, **numbers):
    search = default_search()
    search.update({"method": "coarse_to_fine", **ROUNDS, **numbers})
    propose, trials = methods.from_config(search), []
    while len(trials) < total:
        proposals = propose(space, trials, 8, seed)
        if not proposals:
            break
        trials += [trial(len(trials) + n, p, score(p.values)) for n, p in enumerate(proposals)]
    return search, trials


def test_coarse_to_fine_narrows_around_the_best_and_trains_longer():
    search, trials = search_in_rounds(SQUARE, bowl)
    rounds = methods.rounds(search, SQUARE, trials)
    assert [len(one.trials) for one in rounds] == [20, 20, 24]  # the last takes what is left
    assert [{t.proposal.share for t in one.trials} for one in rounds] == [{0.25}, {0.5}, {1.0}]
    for number, one in enumerate(rounds):
        assert one.best.score == min(t.score for t in one.trials)
        for key, (low, high) in one.box.items():
            assert high - low == pytest.approx(2 * 0.5**number)
            assert all(low <= t.values[key] <= high for t in one.trials)
            if number:
                middle = rounds[number - 1].best.values[key]
                middle = np.clip(middle, -1 + (high - low) / 2, 1 - (high - low) / 2)
                assert (low + high) / 2 == pytest.approx(middle)


def test_a_round_waits_for_the_one_before():
    search, trials = search_in_rounds(SQUARE, bowl, total=20)
    propose = methods.from_config(search)
    trials[4] = trial(4, trials[4].proposal, 0.0, RUNNING)
    assert propose(SQUARE, trials, 5, 0) == []
    assert len(propose(SQUARE, trials[:18], 5, 0)) == 2  # no more than belong to the round
    trials[4] = trial(4, trials[4].proposal, 0.0, DIVERGED)
    assert len(propose(SQUARE, trials, 5, 0)) == 5


def test_a_border_that_the_best_lies_on_is_not_cut_off():
    """At the space's own border the box stays there and says so; at a box's it reaches out."""
    grid = {"round_method": "grid", "grid_points": 5, "round_trials": 25, "shrink": 0.25}
    search, trials = search_in_rounds(SQUARE, lambda values: -values["x"], total=75, **grid)
    for number, one in enumerate(methods.rounds(search, SQUARE, trials)):
        assert one.box["x"] == pytest.approx((1 - 2 * 0.25**number, 1.0))
        assert one.box["x"][1] == 1.0 and one.borders["x"] == "upper" and "x" in one.edges
        assert "the space ends there: a wider axis" in one.warnings()[0]

    def moving(values):  # the second round finds its best at the border of its box
        return -values["x"] if len(seen) >= 25 else abs(values["x"])

    seen = []
    score = lambda values: (moving(values), seen.append(values))[0]  # noqa: E731
    search, trials = search_in_rounds(SQUARE, score, total=75, **grid)
    _, second, third = methods.rounds(search, SQUARE, trials)
    assert second.box["x"] == pytest.approx((-0.25, 0.25)) and second.borders["x"] == "upper"
    assert "x" not in second.edges and "the next box reaches past it" in second.warnings()[0]
    assert third.box["x"] == pytest.approx((0.1875, 0.3125))


def test_boxes_of_whole_numbers_choices_and_conditions():
    search, trials = search_in_rounds(MIXED, loss, round_trials=24)
    first, second, third = methods.rounds(search, MIXED, trials)
    ranges = [one.box["layers"] for one in (first, second, third)]
    assert ranges[0] == (1, 4) and ranges[1][1] - ranges[1][0] == 1
    assert ranges[2][0] == ranges[2][1] == second.best.values["layers"]
    for one in (second, third):
        assert one.space.axes[1] == MIXED.axes[1] and one.space.axes[4] == MIXED.axes[4]
        low, high = one.box["rate"]
        assert math.log10(high / low) == pytest.approx(4 * 0.5**one.number)


def test_a_border_is_one_where_others_were_tried():
    grid = {"round_method": "grid", "grid_points": 2, "round_trials": 4}
    search, trials = search_in_rounds(SQUARE, bowl, 4, **grid)
    assert methods.rounds(search, SQUARE, trials)[0].borders == {"x": "upper", "y": "lower"}
    for one in trials:
        one.values["x"] = 1.0
    assert methods.rounds(search, SQUARE, trials)[0].borders == {"y": "lower"}


def test_a_wider_axis_is_not_advised_where_the_key_ends():
    space = Space((Axis("linear", "model.dropout_rate", 0.0, 0.5), Axis("linear", "x", 0.0, 1.0)))
    search, trials = search_in_rounds(space, lambda v: sum(v.values()), 9, round_method="grid")
    first = methods.rounds(search, space, trials)[0]
    assert [line.partition("; ")[2] for line in first.warnings()] == [
        "the space ends there: the key allows no less",
        "the space ends there: a wider axis may hold better values",
    ]


def test_a_round_in_which_all_diverged_keeps_the_box():
    search, trials = search_in_rounds(SQUARE, lambda values: math.nan, total=30)
    first, second = methods.rounds(search, SQUARE, trials)
    assert first.best is None and first.box == second.box and not first.warnings()


@pytest.mark.parametrize("seed", range(3))
def test_rounds_whose_grids_are_larger_try_them_all_over(seed):
    """So the box narrows around what is best, and not around what came first."""
    space = Space(tuple(Axis("linear", key, 0.0, 1.0) for key in "abcd"))
    search, trials = search_in_rounds(
        space, lambda v: sum((x - 1) ** 2 for x in v.values()), 60, seed, round_method="grid",
        grid_points=3,
    )  # fmt: skip
    rounds = methods.rounds(search, space, trials)
    for one in rounds[:2]:
        assert len(one.trials) == 20
        for key in "abcd":
            counts = Counter(t.values[key] for t in one.trials)
            assert len(counts) == 3 and set(counts.values()) <= {6, 7}
    assert min(t.score for t in rounds[-1].trials) < 0.3  # 1 where all that varies is an axis


@pytest.mark.parametrize("round_method", ["random", "grid", "tpe", "sobol", "cmaes"])
@pytest.mark.parametrize("shrink", [0.05, 1e-12, 1e-300])
def test_boxes_never_collapse(round_method, shrink):
    """Twenty rounds: each box has values that single precision tells apart, and holds the best."""
    space = Space(
        (
            Axis("log", "rate", 1e-4, 1.0),
            Axis("linear", "x", 0.9, 0.9999),
            Axis("linear", "y", -1e6, 1e6),
            Axis("linear", "z", 1.0, 1.0 + 2e-7),  # two numbers in single precision
            Axis("integer", "n", 1, 1000),
        )
    )
    numbers = {"rounds": 20, "round_trials": 4, "round_shares": (1.0,) * 20, "shrink": shrink}
    search, trials = search_in_rounds(
        space, lambda v: v["rate"] + v["n"] + abs(v["y"]), 100, round_method=round_method, **numbers
    )
    rounds = methods.rounds(search, space, trials)
    assert len(rounds) == 20 and len(trials) == 100
    for one, after in itertools.pairwise(rounds):
        assert after.space.holds(one.best.values)
        for axis in one.space.axes:
            assert axis.kind == "integer" or np.float32(axis.low) < np.float32(axis.high)
        one.warnings()


def test_rounds_of_grids_end_with_their_grids():
    search, trials = search_in_rounds(SQUARE, bowl, round_method="grid", grid_points=3)
    assert [len(one.trials) for one in methods.rounds(search, SQUARE, trials)] == [9, 9, 9]
    assert len(trials) == 27


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"method": "bayess"}, "config.search.method = 'bayess' is unknown; did you mean 'bayes'?"),
        ({"round_method": "coarse_to_fine"}, "config.search.round_method = 'coarse_to_fine'"),
        ({"round_method": "sobl"}, "did you mean 'sobol'"),
        (
            {"acquisition": "upper_confidence"},
            "config.search.acquisition = 'upper_confidence' is unknown; did you mean "
            "'upper_confidence_bound'? (allowed: log_expected_improvement, upper_confidence_bound)",
        ),
        ({"rounds": 2}, "config.search.round_shares = (0.1, 0.3, 1.0) (allowed: 2 numbers"),
        ({"round_shares": (0.1, 0.0, 1.0)}, "config.search.round_shares"),
        ({"shrink": 1.5}, "config.search.shrink = 1.5 (allowed: more than 0, at most 1)"),
    ],
)
def test_bad_numbers_are_refused_in_one_line(numbers, message):
    with pytest.raises(UserError) as error:
        sampler(**{"method": "coarse_to_fine", **numbers})
    assert message in str(error.value) and "\n" not in str(error.value)
