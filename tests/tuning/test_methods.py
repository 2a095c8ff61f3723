"""No training twice: spaces that end, branches that end, rounds that end; and old ledgers go on."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import NAME, RATE, SMOOTHING, outcome, search, searched

from research.tuning import methods, samplers
from research.tuning.axes import Axis
from research.tuning.config import default_search
from research.tuning.ledger_lines import read
from research.tuning.spaces import Space, choice, linear
from research.tuning.trials import FINISHED, Proposal, Trial

METHODS = ("random", "sobol", "tpe", "cmaes", "grid")
FINITE = Space(
    (
        Axis("integer", "depth", 1, 3),
        Axis("choice", "rule", values=("sgd", "adam")),
        Axis("choice", "amsgrad", values=(False, True), when=("rule", "adam")),
    )
)


def tried(space, method, most=64, batch=4, score=None, **numbers):
    """The search of a method, and its trials until it has no more, or there are so many."""
    config = default_search()
    config.update({"method": method, "trials": most, **numbers})
    propose, trials = methods.from_config(config), []
    while len(trials) < most:
        proposals = propose(space, trials, min(batch, most - len(trials)), 0)
        if not proposals:
            break
        for proposal in proposals:
            values = proposal.values
            value = score(values) if score else float(values.get("depth", 0))
            report = {"segment": 10, "score": value}
            trials.append(Trial(len(trials), proposal, 10, [report], FINISHED))
    return config, trials


def distinct(trials) -> int:
    return len({repr(trial.values) for trial in trials})


@pytest.mark.parametrize("method", METHODS)
def test_a_space_that_ends_is_tried_once_and_then_no_more(method):
    config, trials = tried(FINITE, method)
    assert len(trials) == distinct(trials) == FINITE.points == 9
    assert methods.left(config, FINITE, trials) == 0
    assert methods.left(config, FINITE, trials[:4]) == 5
    assert methods.budget(config, FINITE) == 9
    told = methods.points_text(config, FINITE)
    assert told == "9 points, 64 trials asked: the search ends when each was tried once"


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=3),
    st.sampled_from(("random", "sobol", "tpe", "cmaes")),
    st.integers(1, 5),
)
@settings(max_examples=15, deadline=None)
def test_any_space_that_ends(sizes, method, batch):
    space = Space(tuple(Axis("integer", f"k{i}", 0, size - 1) for i, size in enumerate(sizes)))
    config, trials = tried(space, method, 80, batch, score=lambda values: sum(values.values()))
    assert len(trials) == distinct(trials) == np.prod(sizes)


def test_a_single_point():
    for method in METHODS:
        assert len(tried(Space((Axis("choice", "rule", values=("sgd",)),)), method)[1]) == 1


@pytest.mark.parametrize("method", ["random", "sobol", "tpe", "cmaes"])
def test_a_branch_without_numbers_is_tried_once(method):
    """Half of the draws are this one point; the others lie on a continuum."""
    space = Space(
        (
            Axis("choice", "rule", values=("sgd", "momentum")),
            Axis("linear", "momentum", 0.0, 0.99, when=("rule", "momentum")),
        )
    )
    config, trials = tried(space, method, 24, score=lambda values: len(values))  # sgd is best
    assert len(trials) == distinct(trials) == 24
    assert sum(trial.values["rule"] == "sgd" for trial in trials) == 1
    assert methods.left(config, space, trials) == np.inf


def test_a_near_point_takes_the_place_of_a_repeat():
    """TPE comes back to where it was good; what it has not tried lies beside that."""
    space = Space((Axis("integer", "x", 0, 99),))
    _, trials = tried(space, "tpe", 60, score=lambda values: abs(values["x"] - 40))
    assert distinct(trials) == 60
    later = [abs(trial.values["x"] - 40) for trial in trials[30:]]
    assert np.median(later) < 25 < np.median([abs(x - 40) for x in range(100)]) + 1


def test_whole_numbers_of_which_there_are_too_many_to_list():
    space = Space((Axis("integer", "x", 1, 2**31 - 1),))
    _, trials = tried(space, "random", 200)
    assert distinct(trials) == 200
    small = Space((Axis("integer", "x", 1, 300),))
    assert distinct(tried(small, "random", 400)[1]) == 300


ROUNDS = {"rounds": 3, "round_trials": 6, "shrink": 0.5}


@pytest.mark.parametrize("round_method", METHODS)
def test_rounds_end_where_their_boxes_do(round_method):
    """Rounds that train as long as one before do not repeat it; others may."""
    numbers = {**ROUNDS, "round_method": round_method}
    config, trials = tried(
        FINITE, "coarse_to_fine", round_shares=(0.2, 0.5, 1.0), **numbers
    )  # fmt: skip
    rounds = methods.rounds(config, FINITE, trials)
    assert len(rounds) == 3 and methods.left(config, FINITE, trials) == 0
    for one in rounds:
        assert distinct(one.trials) == len(one.trials) <= one.space.points
    assert len(rounds[0].trials) == 6
    config, trials = tried(FINITE, "coarse_to_fine", round_shares=(1.0,) * 3, **numbers)
    assert distinct(trials) == len(trials) <= 9
    assert methods.left(config, FINITE, trials) == 0


def test_what_is_told_of_points_before_the_search_begins():
    config = default_search()
    square = Space((Axis("linear", "x", 0.0, 1.0), Axis("linear", "y", 0.0, 1.0)))
    assert methods.points_text(config, square) == ""
    config.update({"method": "grid", "grid_points": 9, "trials": 27})
    assert methods.points_text(config, square) == "81 points, 27 will be tried"
    config.trials = 81
    assert methods.points_text(config, square) == "81 points, 81 will be tried"
    config.update({"method": "coarse_to_fine", "round_method": "grid", "round_trials": 16})
    told = methods.points_text(config, square)
    assert told == "81 points in the first round, 16 will be tried"
    config.round_method = "random"
    told = methods.points_text(config, FINITE)
    assert "9 points in the first round, 16 trials asked: the round ends when each" in told


def test_points_by_hand_count_and_may_lie_off_the_grid():
    config, _ = tried(FINITE, "grid", 1)
    config.trials = 64
    config.enqueue = (
        (("depth", 1), ("rule", "sgd")), (("depth", 1), ("rule", "sgd")),
    )  # fmt: skip
    assert methods.budget(config, FINITE) == 10  # the user says one of them twice
    square = Space((Axis("linear", "x", 0.0, 1.0),))
    config.enqueue = ((("x", 0.3),), (("x", 0.5),))
    assert methods.budget(config, square) == 4  # 0.3, 0.5, 0, 1


FOUR = (choice(RATE, 1e-3, 1e-2), choice(SMOOTHING, 0.0, 0.1))


@pytest.mark.parametrize("method", ["random", "tpe", "coarse_to_fine"])
@pytest.mark.parametrize("slots", [1, 32])
def test_a_search_stops_when_all_was_tried(method, slots, tmp_path):
    config = searched(FOUR, method=method, trials=32, round_trials=3)
    path = tmp_path / "ledger.jsonl"
    study, _ = search(config, path, slots)
    seen = {(repr(trial.values), trial.segments) for trial in study.trials}
    assert len(seen) == len(study.trials) and all(trial.end for trial in study.trials)
    if method != "coarse_to_fine":
        assert len(study.trials) == 4 == study.expected
    data = path.read_bytes()
    for place in [index + 1 for index, byte in enumerate(data) if byte == 10][::9]:
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(data[:place])
        search(config, cut, slots)
        assert outcome(cut) == outcome(path)


def blind(space, trials, count, seed):
    """As `random` was: it does not look at what was tried."""
    numbers = range(len(trials), len(trials) + count)
    return [Proposal({RATE: (1e-3, 1e-2)[n % 2], SMOOTHING: 0.0}) for n in numbers]


def lexicographic(space, trials, count, seed, *, grid_points):
    """As `grid` was."""
    known = [trial.values for trial in trials]
    axes = [[(axis.key, value) for value in axis.spread(grid_points)] for axis in space.axes]
    left = (point for point in map(dict, itertools.product(*axes)) if point not in known)
    return [Proposal(values) for values in itertools.islice(left, count)]


@pytest.mark.parametrize(
    ("method", "old", "space", "total"),
    [
        ("random", blind, FOUR, 14),  # 12 repeats of two points, and then the others
        ("grid", lexicographic, None, 9),
    ],
)
def test_a_search_that_was_begun_before_goes_on(method, old, space, total, tmp_path, monkeypatch):
    config = searched(space, method=method, trials=32, grid_points=3)
    path = tmp_path / "ledger.jsonl"

    class Killed(Exception):
        pass

    def kill(study):
        if len(study.trials) == (12 if space else 5):
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(samplers, method, old)
        patch.setattr(old, "__module__", samplers.__name__)
        patch.setattr(methods, "EachOnce", lambda method: method)
        patch.setattr(methods, "budget", lambda *_: 32)
        with pytest.raises(Killed):
            search(config, path, slots=12 if space else 5, after_turn=kill)
    before = read(path)
    study, _ = search(config, path, slots=12 if space else 5)
    assert read(path)[: len(before)] == before
    assert len(study.trials) == total and all(trial.end for trial in study.trials)
    assert distinct(study.trials) == (4 if space else 9)


def test_a_conditional_search_in_a_study(tmp_path):
    """Of a choice without numbers one trial is trained, and not one of three."""
    space = (choice(NAME, "adam", "nesterov", "sgd"), choice(RATE, 1e-3, 1e-2),
             linear(SMOOTHING, 0.0, 0.5, when=(NAME, "adam")))  # fmt: skip
    study, _ = search(searched(space, trials=30), tmp_path / "ledger.jsonl")
    assert distinct(study.trials) == len(study.trials) == 30
