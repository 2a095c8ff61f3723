"""The study: a search is the same whatever interrupts it, over a training in closed form."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import COHORTS, RATE, SMOOTHING, outcome, search, searched

from research.errors import UserError
from research.tuning import samplers
from research.tuning.ledger_lines import read
from research.tuning.spaces import choice, linear, log
from research.tuning.trials import DIVERGED, FINISHED, REPLACED, STOPPED, Proposal

SEARCHES = {
    "none": (searched(), 4),
    "asha": (searched(scheduler="asha", reduction=2, trials=20), 3),
    "halving": (searched(scheduler="successive_halving", reduction=2, trials=9), 3),
    "hyperband": (searched(scheduler="hyperband", reduction=2, trials=14), 4),
    "median": (searched(scheduler="median_rule", median_trials=2), 5),
    "population": (
        searched(scheduler="population_based", exploit_share=0.4, trials=10, grace=2), 5
    ),
    "population diverging": (
        searched((log(RATE, 1e-4, 1.0), linear(SMOOTHING, 0.0, 0.5)), trials=9, grace=2,
                 scheduler="population_based", exploit_share=0.4), 9
    ),
    "boxes": (searched(method="coarse_to_fine", rounds=14, round_shares=(1.0,) * 14, shrink=0.05,
                       round_trials=2, trials=29, segments=2), 2),
    "all there is": (searched((choice(RATE, 1e-3, 1e-2, 5e-2), choice(SMOOTHING, 0.0, 0.1, 0.2)),
                              scheduler="successive_halving", trials=14), 4),
    "cohorts": (searched(COHORTS, scheduler="asha", reduction=2, trials=20), 3),
    "cohorts halving": (searched(COHORTS, scheduler="successive_halving", reduction=2), 2),
}  # fmt: skip


@pytest.fixture(params=SEARCHES)
def whole(request, tmp_path):
    """A search from its start to its end: config, slots, its ledger's path, study, populations."""
    config, slots = SEARCHES[request.param]
    study, populations = search(config, tmp_path / "whole.jsonl", slots)
    return config, slots, tmp_path / "whole.jsonl", study, populations


def test_every_trial_ends_once_and_is_trained_as_long_as_its_ledger_says(whole, request):
    config, slots, path, study, populations = whole
    lines = read(path)
    ends = [line["trial"] for line in lines if line["event"] == "end"]
    assert sorted(ends) == list(range(len(study.trials)))
    assert len(study.trials) == study.expected
    copies = sum(trial.proposal.parent is not None for trial in study.trials)
    points = 9 if "all there is" in request.node.name else config.search.trials
    assert len(study.trials) - copies == points
    for trial in study.trials:
        reports = [x for x in lines if x["event"] == "report" and x["trial"] == trial.number]
        assert [report["segment"] for report in reports] == [r["segment"] for r in trial.reports]
        first = reports[0]["segment"] if reports else 0
        assert [r["segment"] for r in reports] == list(range(first, first + len(reports)))
        assert (trial.end == FINISHED) == (trial.segment == config.search.segments and
                                           trial.reports[-1]["finite"])  # fmt: skip
        assert (trial.end == DIVERGED) == (trial.values[RATE] >= 0.08 and trial.end != REPLACED)
    # Nothing is trained twice where nothing was interrupted.
    assert sum(p.trained for p in populations) == sum(line["event"] == "report" for line in lines)


def test_no_slot_is_idle_while_trials_could_run(whole):
    """In one program, and a scheduler that lets no one wait, all slots are full to the last ask."""
    config, slots, path, study, populations = whole
    if len(populations) > 1 or config.search.scheduler in ("successive_halving", "hyperband"):
        return
    lines = read(path)
    last_ask = max(number for number, line in enumerate(lines) if line["event"] == "ask")
    told = [line["slot"] for line in lines[:last_ask] if line["event"] == "report"]
    assert told == list(range(slots)) * (len(told) // slots)


def test_a_search_cut_off_anywhere_comes_to_the_same_end(whole, tmp_path):
    config, slots, path, study, _ = whole
    data = path.read_bytes()
    expected = outcome(path)
    places = sorted({*np.linspace(0, len(data), 20, dtype=int)} | {
        place for place, byte in enumerate(data) if byte == 10})  # fmt: skip
    for place in places[:: max(1, len(places) // 25)]:
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(data[:place])
        again, _ = search(config, cut, slots)
        assert outcome(cut) == expected, place
        assert again.trials == study.trials


def test_a_search_cut_off_again_and_again(whole, tmp_path):
    config, slots, path, study, _ = whole

    class Killed(Exception):
        pass

    path_of_this = tmp_path / "killed.jsonl"
    random = np.random.default_rng(0)

    def kill(study):
        if not study.replaying and random.random() < 0.25:
            raise Killed

    for _ in range(500):
        try:
            search(config, path_of_this, slots, after_turn=kill)
            break
        except Killed:
            pass
    assert outcome(path_of_this) == outcome(path)


def test_a_finished_search_trains_nothing_more(whole):
    config, slots, path, study, _ = whole
    before = path.read_bytes()
    again, populations = search(config, path, slots)
    assert again.trials == study.trials
    assert populations == [] and path.read_bytes() == before


@pytest.mark.parametrize("name", ["none", "asha", "halving", "population", "cohorts"])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_search_that_grows_keeps_what_it_had(name, share, tmp_path):
    config, slots = SEARCHES[name]
    path = tmp_path / "ledger.jsonl"
    search(config, path, slots)
    data = path.read_bytes()
    kept = data[: data.rfind(b"\n", 0, int(share * len(data))) + 1]
    path.write_bytes(kept)
    larger = config.copy_and_resolve_references()
    larger.search.trials += 5
    study, _ = search(larger, path, slots)
    assert path.read_bytes().startswith(kept)
    ended = [trial for trial in study.trials if trial.end != REPLACED]
    assert len(ended) == larger.search.trials and all(trial.end for trial in study.trials)
    before = path.read_bytes()
    again, populations = search(larger, path, slots)
    assert again.trials == study.trials and path.read_bytes() == before
    with pytest.raises(UserError, match=rf"trials = {config.search.trials}.*at least|or more"):
        search(config, path, slots)


def test_points_by_hand_go_first(tmp_path):
    points = (((RATE, 1e-3), (SMOOTHING, 0.1)), ((RATE, 2e-3), (SMOOTHING, 0.2)))
    study, _ = search(searched(enqueue=points), tmp_path / "ledger.jsonl")
    assert [trial.values for trial in study.trials[:2]] == [dict(point) for point in points]
    assert study.trials[2].values not in [dict(point) for point in points]


def test_points_by_hand_are_as_short_as_their_round(tmp_path):
    config = searched(enqueue=(((RATE, 1e-3), (SMOOTHING, 0.1)),), method="coarse_to_fine")
    study, _ = search(config, tmp_path / "ledger.jsonl")
    share = config.search.round_shares[0]
    assert share < 1 and [trial.proposal.share for trial in study.trials[:2]] == [share, share]


@pytest.mark.parametrize("slots", [1, 3, 4, 7])
def test_more_points_by_hand_than_a_round_has_go_on_in_the_next(slots, tmp_path):
    """In their order; the sampler fills up the round that the last of them is in."""
    points = tuple(((RATE, 1e-3 * (1 + i)), (SMOOTHING, i / 20)) for i in range(10))
    config = searched(
        enqueue=points, method="coarse_to_fine", round_trials=4, round_shares=(0.2, 0.5, 1.0),
        trials=14,
    )  # fmt: skip
    path = tmp_path / "ledger.jsonl"
    study, _ = search(config, path, slots)
    assert [trial.values for trial in study.trials[:10]] == [dict(point) for point in points]
    assert all(trial.values not in map(dict, points) for trial in study.trials[10:])
    shares = [trial.proposal.share for trial in study.trials]
    assert shares == [0.2] * 4 + [0.5] * 4 + [1.0] * 6
    assert [trial.segments for trial in study.trials[3:9:5]] == [1, 6]
    lines = [line for line in read(path) if line["event"] in ("ask", "end")]
    for first in (4, 8):  # a round begins when the one before has ended
        asked = next(
            i for i, line in enumerate(lines) if any(
                told["number"] == first for told in line.get("trials", ())
            )
        )  # fmt: skip
        assert sum(line["event"] == "end" for line in lines[:asked]) == first
    data = path.read_bytes()
    for place in [index + 1 for index, byte in enumerate(data) if byte == 10][::5]:
        cut = tmp_path / "cut.jsonl"
        cut.write_bytes(data[:place])
        search(config, cut, slots)
        assert outcome(cut) == outcome(path)


def test_a_sampler_may_wait_or_have_no_more(tmp_path, monkeypatch):
    """In rounds of three, the last of which is one of two; nine were asked for."""

    def rounds(space, trials, count, seed):
        if any(not trial.end for trial in trials) and len(trials) % 3 == 0:
            return []
        left = min(3 - len(trials) % 3, 8 - len(trials), count)
        return [Proposal({RATE: 1e-3 * (1 + len(trials) + i), SMOOTHING: 0.1}) for i in range(left)]

    rounds.__module__ = samplers.__name__
    monkeypatch.setattr(samplers, "rounds", rounds, raising=False)
    for scheduler in ("none", "successive_halving"):
        config = searched(method="rounds", trials=9, scheduler=scheduler)
        path = tmp_path / f"{scheduler}.jsonl"
        study, _ = search(config, path)
        assert len(study.trials) == 8 and all(trial.end for trial in study.trials)
        data = path.read_bytes()
        for place in [index + 1 for index, byte in enumerate(data) if byte == 10]:
            cut = tmp_path / "cut.jsonl"
            cut.write_bytes(data[:place])
            search(config, cut)
            assert outcome(cut) == outcome(path)


def test_copies_are_no_points_of_the_sampler(tmp_path, monkeypatch):
    """It sees its own alone: else a sequence would leave out one for each copy."""
    seen = []

    def ones(space, trials, count, seed):
        assert all(trial.proposal.parent is None for trial in trials)
        seen.extend(range(len(trials), len(trials) + count))
        return [
            Proposal({RATE: 1e-3 * (1 + len(trials) + i), SMOOTHING: 0.1}) for i in range(count)
        ]

    ones.__module__ = samplers.__name__
    monkeypatch.setattr(samplers, "ones", ones, raising=False)
    config = searched(method="ones", scheduler="population_based", exploit_share=0.4, grace=1)
    study, _ = search(config, tmp_path / "ledger.jsonl", slots=5)
    assert any(trial.end == REPLACED for trial in study.trials)
    assert seen == list(range(config.search.trials))


def test_shorter_trainings_have_fewer_pieces(tmp_path, monkeypatch):
    def short(space, trials, count, seed):
        return [Proposal({RATE: 1e-3, SMOOTHING: 0.1}, share=0.3)] * count

    short.__module__ = samplers.__name__
    monkeypatch.setattr(samplers, "short", short, raising=False)
    study, _ = search(searched(method="short", segments=10), tmp_path / "ledger.jsonl")
    assert {(t.segments, t.segment, t.end) for t in study.trials} == {(3, 3, FINISHED)}


def test_scores_are_means_over_lanes_with_their_standard_error(tmp_path):
    study, _ = search(searched(), tmp_path / "loss.jsonl", lanes=3)
    report = next(trial for trial in study.trials if trial.end == FINISHED).reports[-1]
    assert report["score"] == pytest.approx(np.mean(report["scores"]))
    assert report["score"] == report["validation_loss"]
    assert report["standard_error"] == pytest.approx(0.1 / math.sqrt(3))
    accuracy = searched(objective="validation_accuracy")
    study, _ = search(accuracy, tmp_path / "accuracy.jsonl")
    report = study.trials[0].reports[-1]
    assert report["score"] == pytest.approx(1 - report["validation_accuracy"])
    assert math.isnan(report["standard_error"]) and "scores" not in report


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 30))
@settings(max_examples=15, deadline=None)
def test_trials_of_other_groups_wait_and_are_not_forgotten(tmp_path_factory, slots, segments, seed):
    config = searched(COHORTS, trials=20, segments=segments, seed=seed)
    path = tmp_path_factory.mktemp("cohorts") / "ledger.jsonl"
    most = 0

    def watch(study):
        nonlocal most
        begun = sum(bool(trial.reports) for trial in study.trials)
        most = max(most, len(study.trials) - begun)

    study, populations = search(config, path, slots, after_turn=watch)
    assert all(trial.end for trial in study.trials) and len(study.trials) == 20
    assert len(populations) <= 3 and most <= slots


def test_the_lanes_of_diverged_trials_go_to_copies(tmp_path):
    """At once, of one that runs: as long as any runs no lane is idle."""
    config, slots = SEARCHES["population diverging"]
    path = tmp_path / "ledger.jsonl"
    study, _ = search(config, path, slots)
    diverged = [trial for trial in study.trials if trial.end == DIVERGED]
    assert len(diverged) > 0
    lines = read(path)
    for number, line in enumerate(lines):
        if line["event"] == "end" and line["why"] == DIVERGED:
            following = [x for x in lines[number:] if x["event"] != "end"][0]
            assert following["event"] == "replace"
            parent = study.trials[following["trials"][0]["parent"]]
            assert parent.end != DIVERGED or parent.segment > study.trials[line["trial"]].segment
    told = [line["slot"] for line in lines if line["event"] == "report"]
    assert told == list(range(slots)) * config.search.segments
    assert sum(trial.end == FINISHED for trial in study.trials) >= slots - 2


def test_copies_start_from_their_parents_state(tmp_path):
    config, slots = SEARCHES["population"]
    study, _ = search(config, tmp_path / "ledger.jsonl", slots)
    copies = [trial for trial in study.trials if trial.proposal.parent is not None]
    assert copies
    for trial in copies:
        parent = study.trials[trial.proposal.parent]
        assert trial.reports[0]["segment"] % config.search.grace == 1
        assert trial.reports[0]["segment"] - 1 <= parent.segment
    assert {t.end for t in study.trials} <= {FINISHED, REPLACED, DIVERGED, STOPPED}
