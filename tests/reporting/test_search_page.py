"""The report of a search: its numbers against closed forms and simulations, its page as a whole."""

import json
import math
import re
from collections import Counter

import numpy as np
import pytest
from browser import drawn
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import COHORTS, NAME, RATE, SMOOTHING, search, searched

from research.errors import UserError
from research.reporting import scales, search_page, search_timeline
from research.reporting import search_statistics as statistics
from research.reporting import searched as folders
from research.reporting.rendering import plotly_script
from research.tuning import results
from research.tuning.axes import parsed
from research.tuning.reports import Objective
from research.tuning.spaces import Space, choice, integer, linear, log
from research.tuning.trials import DIVERGED, FINISHED, REPLACED, Proposal, Trial

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
ASHA = {"scheduler": "asha", "reduction": 2, "trials": 20}


LOSS = Objective("validation_loss", higher_is_better=False)


def folder(tmp_path, name="search", config=None, lanes=1, slots=4):
    """A search that the study ran to its end."""
    workdir = tmp_path / name
    workdir.mkdir()
    study, _ = search(config or searched(), workdir / "ledger.jsonl", slots, lanes)
    return workdir, study


def written(tmp_path, *workdirs) -> str:
    search_page.write_report(workdirs, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text().replace(plotly_script(), "")


def trial(values, score=0.5, error=math.nan, number=0, end=FINISHED):
    report = {"segment": 1, "epoch": 1.0, "score": score, "standard_error": error}
    return Trial(number, Proposal(values), 1, [report], end)


SEARCHES = {
    "none": (searched(), 4),
    "asha": (searched(**ASHA), 3),
    "halving": (searched(scheduler="successive_halving", reduction=2, trials=9), 3),
    "population": (
        searched(scheduler="population_based", exploit_share=0.4, trials=10, grace=2), 5
    ),
    "cohorts": (searched(COHORTS, **ASHA), 3),
}  # fmt: skip


@pytest.mark.parametrize("name", SEARCHES)
def test_the_ledger_gives_the_trials_of_the_study_back(name, tmp_path):
    config, slots = SEARCHES[name]
    workdir, study = folder(tmp_path, config=config, slots=slots)
    found = folders.read_search(workdir)
    assert found.over and found.total == len(found.trials)
    for ours, theirs in zip(found.trials, study.trials, strict=True):
        assert (ours.number, ours.values, ours.end) == (theirs.number, theirs.values, theirs.end)
        assert (ours.proposal.parent, ours.segments) == (theirs.proposal.parent, theirs.segments)
        told = [(r["segment"], r["score"]) for r in theirs.reports]
        assert repr([(r["segment"], r["score"]) for r in ours.reports]) == repr(told)
        # One epoch a segment in this training; a copy has trained those after its parent's.
        assert found.epochs(ours) == pytest.approx(len(theirs.reports))


@pytest.mark.parametrize("name", SEARCHES)
def test_no_two_trials_stand_in_a_slot_at_once(name, tmp_path):
    config, slots = SEARCHES[name]
    found = folders.read_search(folder(tmp_path, config=config, slots=slots)[0])
    taken = Counter()
    for stay in found.stays:
        assert 0 <= stay.slot < slots
        for turn in range(stay.first, stay.last + 1):
            taken[stay.program, stay.slot, turn] += 1
    assert set(taken.values()) == {1}
    trained = Counter()
    for stay in found.stays:
        trained[stay.trial] += stay.last - stay.first + 1
    for one in found.trials if len({stay.program for stay in found.stays}) == 1 else ():
        assert trained[one.number] == len(one.reports)


def test_a_program_waits_while_another_trains():
    space = Space((parsed(choice(NAME, "adam", "sgd")),))
    trials = [trial({NAME: name}, number=n) for n, name in enumerate(("adam", "sgd", "adam"))]

    def report(number, slot):
        return {"event": "report", "trial": number, "slot": slot, "segment": 1}

    lines = [report(0, 0), report(2, 1), report(1, 0), report(0, 0), report(2, 1), report(0, 0)]
    stays = folders.stays_of(lines, trials, space)
    told = [(stay.trial, stay.program, stay.slot, stay.first, stay.last) for stay in stays]
    assert told == [(0, 0, 0, 0, 3), (2, 0, 1, 0, 2), (1, 1, 0, 1, 1)]
    # One that left its slot and came back has been there twice.
    lines = [report(0, 0), {"event": "end"}, report(2, 1), {"event": "end"}, report(0, 0)]
    told = [(s.trial, s.first, s.last) for s in folders.stays_of(lines, trials, space)]
    assert told == [(0, 0, 0), (2, 1, 1), (0, 2, 2)]


def test_a_trial_that_waited_has_a_bar_for_each_time(tmp_path):
    config, slots = SEARCHES["halving"]
    found = folders.read_search(folder(tmp_path, config=config, slots=slots)[0])
    stays = Counter(stay.trial for stay in found.stays)
    bars = {trace["name"]: trace for trace in search_timeline.timeline(found)["data"]}
    drawn = {name: sorted(map(int, trace["text"])) for name, trace in bars.items()}
    again = [number for number, count in stays.items() for _ in range(count - 1)]
    assert again and drawn.pop("waited, and went on later") == sorted(again)
    for end, numbers in drawn.items():
        assert numbers == [one.number for one in found.trials if one.end == end]
    told = bars["waited, and went on later"]["customdata"]
    assert all(
        re.fullmatch(r"trial \d+: waited, .* after segment 1 of 6|.* 2 of 6", x) for x in told
    )


def test_bars_that_are_not_drawn_are_told(tmp_path, monkeypatch):
    workdir, _ = folder(tmp_path, config=searched(**ASHA))
    stays = len(folders.read_search(workdir).stays)
    assert "Drawn are the first" not in written(tmp_path, workdir)
    monkeypatch.setattr(search_timeline, "BARS", stays - 1)
    assert f"Drawn are the first {stays - 1}" in written(tmp_path, workdir)
    bars = search_timeline.timeline(folders.read_search(workdir))["data"]
    assert sum(len(trace["x"]) for trace in bars) == stays - 1


@given(
    st.lists(st.floats(0, 10), min_size=1, max_size=30), st.sampled_from((0.05, 0.25, 0.5, 0.95))
)
@settings(max_examples=50, deadline=None)
def test_the_band_is_the_quantile_of_the_least_of_random_draws(scores, quantile):
    scores = np.array(scores)
    count = len(scores)
    for draws, edge in enumerate(statistics.band(scores, quantile), start=1):
        below, to = np.mean(scores < edge), np.mean(scores <= edge)
        assert 1 - (1 - below) ** draws < quantile + 1e-6
        assert 1 - (1 - to) ** draws >= quantile - 1e-6
    assert statistics.band(scores, quantile).shape == (count,)


def test_the_band_over_cost_is_that_over_trials_where_all_cost_the_same():
    scores = np.random.default_rng(1).random(40)
    scores[3] = np.inf  # one that diverged
    at = np.arange(1, 41)
    low, middle, high = statistics.band_over_cost(
        scores, np.full(40, 3.0), 3.0 * at, (0.05, 0.5, 0.95)
    )
    for simulated, quantile in ((low, 0.05), (middle, 0.5), (high, 0.95)):
        # 500 resamples hit a quantile to within 3 standard errors.
        error = 3 * math.sqrt(quantile * (1 - quantile) / 500)
        assert np.all(simulated >= statistics.band(scores, max(quantile - error, 1e-3)))
        assert np.all(simulated <= statistics.band(scores, min(quantile + error, 1 - 1e-3)))


def test_chances_of_random_draws():
    told = [round(statistics.chance_of_top(draws), 2) for draws in (8, 20, 60)]
    assert told == [0.34, 0.64, 0.95]
    assert statistics.draws_for(0.95) == 59
    assert statistics.chance_of_top(58) < 0.95 <= statistics.chance_of_top(59)


def test_borders_are_seen_on_the_scale_of_each_axis():
    space = Space(
        tuple(
            map(
                parsed,
                (log(RATE, 1e-4, 1e-1), linear(SMOOTHING, 0.0, 0.5), integer("model.depth", 2, 30),
                 choice(NAME, "adam", "sgd"), integer("max_rollbacks", 0, 1)),
            )
        )
    )  # fmt: skip
    inside = {RATE: 1e-3, SMOOTHING: 0.1, "model.depth": 4, NAME: "adam", "max_rollbacks": 0}
    assert statistics.borders(space, trial(inside)) == {}
    assert statistics.borders(space, trial({**inside, RATE: 1.4e-4})) == {RATE: "lower"}
    assert statistics.borders(space, trial({**inside, RATE: 1.5e-4})) == {}  # at 0.059
    assert statistics.borders(space, trial({**inside, RATE: 0.09})) == {RATE: "upper"}
    assert statistics.borders(space, trial({**inside, SMOOTHING: 0.024})) == {SMOOTHING: "lower"}
    assert statistics.borders(space, trial({**inside, "model.depth": 2})) == {
        "model.depth": "lower"
    }
    assert statistics.borders(space, trial({NAME: "sgd"})) == {}


def warned(tmp_path, trials, **changes) -> str:
    found = folders.read_search(folder(tmp_path)[0])
    for key, value in changes.items():
        found.config.search[key] = value
    lines = statistics.warnings(
        folders.dataclasses.replace(found, trials=trials, total=len(trials))
    )
    return "\n".join(lines)


def test_warnings_say_what_to_do(tmp_path):
    trials = [trial({RATE: 1e-2, SMOOTHING: 0.2}, 0.9 + n, number=n) for n in range(60)]
    trials[7] = trial({RATE: 0.0999, SMOOTHING: 0.001}, 0.5, number=7)
    told = warned(tmp_path, trials)
    assert f"The best trial, 7, lies at the upper end of {RATE}: 0.0999" in told
    assert "ends at 0.1. A wider axis may hold better values" in told
    assert f"lower end of {SMOOTHING}: 0.001, and the axis begins at 0. The key allows no" in told
    assert "config.search.seeds = 3" in told
    assert "Few trials" not in told


def test_nothing_is_said_of_values_that_nothing_was_compared_with(tmp_path):
    """A grid whose first points have all one rate says nothing of other rates."""
    trials = [trial({RATE: 1e-4, SMOOTHING: n / 120}, 0.9 + n, number=n) for n in range(60)]
    told = warned(tmp_path, trials)
    assert f"All trials lie at the lower end of {RATE}: no other value was tried." in told
    assert f"lower end of {SMOOTHING}" in told and told.count("A wider axis") == 0
    trials[-1] = trial({RATE: 1e-3, SMOOTHING: 0.2}, math.nan, number=59, end=DIVERGED)
    (tmp_path / "other").mkdir()
    assert "A wider axis may hold better values" in warned(tmp_path / "other", trials)


def test_no_more_trials_are_advised_than_there_are_points(tmp_path):
    space = (choice(RATE, 1e-3, 1e-2), choice(SMOOTHING, 0.0, 0.1))
    config = searched(space, trials=32)
    found = folders.read_search(folder(tmp_path, "all", config)[0])
    assert found.over and len(found.trials) == 4 and found.left == 0
    told = "\n".join(statistics.warnings(found))
    assert "not come to its end" not in told and "random ones" not in told and "make it" not in told
    part = folders.dataclasses.replace(found, trials=found.trials[:3], total=3)
    assert "Points of the space that were not tried: 1." in statistics.warnings(part)
    assert "59 make it" not in written(tmp_path, tmp_path / "all")


@pytest.mark.parametrize("worse", [0, 1])
def test_importances_of_trials_that_are_as_good_as_each_other(tmp_path, worse):
    """And without a word of Optuna's on the screen, which would be an error here."""
    from research.tuning.optuna_export import OptunaExport

    workdir, _ = folder(tmp_path, config=searched(trials=30))
    ledger = workdir / "ledger.jsonl"
    lines = [json.loads(line) for line in ledger.read_text().splitlines()]
    for line in lines:
        if line["event"] == "report" and line["finite"]:
            score = 0.5 - 0.1 * (worse and line["trial"] == 4)
            line["score"] = line["validation_loss"] = score
    ledger.write_text("".join(json.dumps(line) + "\n" for line in lines))
    found, journal = folders.read_search(workdir), workdir / "optuna_journal.log"
    OptunaExport(journal, found.space, found.objective).update(found.trials, at_once=True)
    assert statistics.importances(found.trials, journal) == {}
    html = written(tmp_path, workdir)
    assert "too many trials came to the same score for any axis to decide" in html


def test_differences_within_the_noise_are_named(tmp_path):
    values = {RATE: 1e-2, SMOOTHING: 0.2}
    trials = [trial(values, s, 0.1, n) for n, s in enumerate((0.55, 0.5, 0.61, 0.6, 0.9))]
    told = warned(tmp_path, trials, seeds=2)
    assert "2 other trials are within one standard error of the best (0, 3)" in told
    assert "the best of 5 random ones" in told and "23%" in told and "59 make it 95%" in told


def test_ticks_are_round_and_leave_room():
    assert list(scales.even_ticks(0, 0.5)) == [0, 0.1, 0.2, 0.3, 0.4, 0.5]
    assert list(scales.even_ticks(0.5, 0.99)) == [0.5, 0.6, 0.7, 0.8, 0.9, 0.99]
    assert list(scales.even_ticks(1, 3)) == [1, 1.5, 2, 2.5, 3]


@pytest.mark.parametrize(
    ("objective", "scores", "log", "ceiling"),
    [
        ("validation_loss", [0.01, 0.1, 1.0], True, 1.0),
        ("validation_loss", [1.0] * 5 + [1.1] * 5 + [1e9], False, 1.15),
        ("validation_accuracy", [0.0, 0.5, 0.9, math.inf], False, 0.9),
    ],
)
def test_the_scale_of_scores_follows_those_that_matter(objective, scores, log, ceiling):
    scale = scales.scale_of(Objective(objective, "accuracy" in objective), scores)
    assert scale.log == log and scale.ceiling == pytest.approx(ceiling)
    assert scale.place([math.inf, math.nan, scores[0]]) == pytest.approx(
        [ceiling, ceiling, scores[0]], rel=1e-4
    )


def test_one_search(tmp_path):
    workdir, study = folder(tmp_path, config=searched(COHORTS, **ASHA))
    html = written(tmp_path, workdir)
    found = results.best(study.trials)
    for words in ("Best so far", "Learning curves", "Slices", "Parallel coordinates", "Slots",
                  "Rungs", f"trial {found.number}", "20 trials trained to their end",
                  f"--config.{RATE}=", "config.search", "An axis with a condition",
                  "effect on what it expects"):  # fmt: skip
        assert words in html
    assert scales.short_names(Space.from_config(searched(COHORTS)))[NAME] == NAME  # not "name"
    assert html.count('<div id="figure') == 2 + 1 + 3 + 1 + 2 + 1 + 1
    (workdir / "best.py").touch()
    assert f"python -m research.main --config={workdir}/best.py" in written(tmp_path, workdir)


def test_importances_of_the_axes_by_the_optuna_journal(tmp_path):
    from research.tuning.optuna_export import OptunaExport

    config = searched(trials=48)
    workdir, study = folder(tmp_path, config=config)
    journal = workdir / "optuna_journal.log"
    assert statistics.importances(study.trials, journal) == {}
    OptunaExport(journal, Space.from_config(config), LOSS).update(study.trials, at_once=True)
    shares = statistics.importances(study.trials, journal)
    assert sum(shares.values()) == pytest.approx(1)
    assert shares[RATE] > shares[SMOOTHING]  # (log10(rate) + 2.5)^2 is most of that loss
    html = written(tmp_path, workdir)
    assert "Watanabe" in html
    told = (
        f"importance above, <code>{RATE}</code> ({shares[RATE]:.0%}) and <code>{SMOOTHING}</code>"
    )
    assert told in " ".join(html.split())  # the axes that the surrogate is drawn over


def test_importances_are_of_trials_that_were_trained_as_long(tmp_path):
    """Of short trials smoothing decides, of long ones the rate; the short ones have less loss."""
    from research.tuning.optuna_export import OptunaExport

    rng = np.random.default_rng(0)
    trials = []
    for number in range(80):
        rate, smoothing = 10 ** rng.uniform(-4, -1), rng.uniform(0, 0.5)
        long = number >= 40
        score = 1 + abs(np.log10(rate) + 2.5) if long else smoothing
        proposal = Proposal({RATE: rate, SMOOTHING: smoothing}, 1.0 if long else 0.5)
        report = {"segment": 6 if long else 3, "epoch": 1.0, "score": score, "standard_error": 0.0}
        trials.append(Trial(number, proposal, report["segment"], [report], FINISHED))
    space, journal = Space.from_config(searched()), tmp_path / "optuna_journal.log"
    OptunaExport(journal, space, LOSS).update(trials, at_once=True)
    shares = statistics.importances(trials, journal)
    assert shares[RATE] > 3 * shares[SMOOTHING]
    assert statistics.importances(trials[:59], journal) == {}


def test_several_searches_compare_at_equal_budget(tmp_path):
    long, study = folder(tmp_path, "long", searched(trials=30))
    short, _ = folder(tmp_path, "short", searched(trials=12, seed=1))
    html = written(tmp_path, long, short)
    assert "best of 12 trials" in html and "best of 72 epochs" in html
    scores = [t.score if t.end != DIVERGED else math.inf for t in study.trials]
    assert f"{min(scores[:12]):.4g}</td>" in html and f"{min(scores):.4g}</td>" in html
    assert html.count('<div id="figure') == 2
    other, _ = folder(tmp_path, "other", searched(objective="validation_accuracy"))
    with pytest.raises(UserError, match="validation_accuracy and validation_loss do not compare"):
        written(tmp_path, long, other)


def test_nothing_is_loaded_and_nothing_foreign_runs(tmp_path):
    """Names come from a folder, and from a ledger that says what it likes."""
    workdir, _ = folder(tmp_path, config=searched(COHORTS))
    path = workdir / "ledger.jsonl"
    told = path.read_text()
    for number, word in enumerate(("adam", "nesterov", "sgd")):
        told = told.replace(f'"{word}"', json.dumps(f"{number}{EVIL}"))
    path.write_text(told)
    evil_folder = tmp_path / "<img src=x onerror=alert(1)>"
    workdir.rename(evil_folder)
    for workdirs in ([evil_folder], [evil_folder, folder(tmp_path, "b")[0]]):
        html = written(tmp_path, *workdirs)
        assert EVIL not in html and "<img" not in html
        assert not re.search(r"\\u003c(img|script)", html)  # which Plotly would take for markup
        assert html.count("</script>") == 2
        for outside in ('src="http', 'href="http', "url("):
            assert outside not in html


def test_a_search_that_goes_on_has_just_begun_or_found_nothing(tmp_path):
    workdir, _ = folder(tmp_path, config=searched(**ASHA))
    path = workdir / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    first = next(n for n, line in enumerate(lines) if '"finite": true' in line)
    for count in (1, 2, first, first + 1, 20, len(lines) - 1):
        path.write_text("".join(lines[:count]) + '{"event": "rep')
        html = written(tmp_path, workdir)
        assert "20" in html and ("No trial has a score" in html) == (count <= first)
    dead, study = folder(tmp_path, "dead", searched((log(RATE, 0.09, 1.0),)))
    assert results.all_diverged(study.trials)
    assert "all diverged" in written(tmp_path, dead)
    assert "Best so far" in written(tmp_path, dead, folder(tmp_path, "alive")[0])


def test_no_searches_and_damaged_ones_are_named(tmp_path):
    with pytest.raises(UserError, match="not the folder of a search"):
        written(tmp_path, tmp_path)
    workdir, _ = folder(tmp_path)
    path = workdir / "ledger.jsonl"
    whole = path.read_text()
    for bad, told in (
        ("[]\n", "line 1: damaged"),
        ("", "no search has begun"),
        (whole.replace('"slot"', '"slit"'), r"line \d+: damaged"),
        (
            whole.replace('"segments": 6', '"segments": "six"'),
            "1: damaged: .*segments = 'six' is not",
        ),
        (whole.replace('"seeds": 1', '"seeds": 1e308'), "1: damaged: .*seeds = 1e.308 is not"),
        (whole.replace(f'"values": {{"{RATE}"', '"values": {"x"'), "damaged, it cannot be drawn"),
        (whole.replace('"log"', '"lag"'), "unknown"),
    ):
        path.write_text(bad)
        with pytest.raises(UserError, match=told):
            written(tmp_path, workdir)


def test_many_trials_are_drawn_in_part_the_best_among_them(tmp_path, monkeypatch):
    monkeypatch.setattr(search_page, "_DRAWN", 5)
    workdir, study = folder(tmp_path, config=searched(trials=40))
    html = written(tmp_path, workdir)
    assert "5 of 40 trials are drawn" in html or "6 of 40 trials are drawn" in html
    assert f"best: trial {results.best(study.trials).number}" in html


def test_the_command_draws_searches_and_refuses_to_mix_them_with_runs(tmp_path, command):
    workdir, _ = folder(tmp_path)
    done = command("report", str(workdir))
    assert done.returncode == 0 and "Best so far" in (workdir / "report.html").read_text()
    (tmp_path / "run").mkdir()
    done = command("report", str(workdir), str(tmp_path / "run"))
    assert done.returncode == 2 and "is a search and" in done.stderr


def test_a_browser_draws_every_figure(tmp_path):
    config = searched(COHORTS, scheduler="population_based", grace=2, trials=24)
    written(tmp_path, folder(tmp_path, config=config)[0])
    document = drawn(tmp_path / "report.html")
    figures = (tmp_path / "report.html").read_text().count('<div id="figure')
    assert document.count('class="plot-container plotly"') == figures
    assert "<title>search</title>" in document
    assert "not there" in document and REPLACED in document
