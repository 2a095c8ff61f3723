"""The surrogate's surface against a function in closed form; the boxes of a search from coarse to
fine against its rounds."""

import math

import numpy as np
import pytest
from searches import NAME, RATE, SMOOTHING, search, searched

from research.reporting import search_axes, search_page
from research.reporting import searched as folders
from research.reporting.scales import scale_of
from research.reporting.search_surface import surface
from research.tuning import methods
from research.tuning.axes import parsed
from research.tuning.reports import Objective
from research.tuning.results import best
from research.tuning.spaces import Space, choice, linear, log
from research.tuning.trials import DIVERGED, FINISHED, Proposal, Trial

DROPOUT = "model.dropout_rate"
SPACE = Space(
    tuple(
        map(parsed, (linear(DROPOUT, 0.0, 0.5), log(RATE, 1e-4, 1e-1), linear(SMOOTHING, 0.0, 0.5)))
    )
)


def score(values: dict) -> float:
    return 0.1 + (math.log10(values[RATE]) + 2.5) ** 2 + values.get(SMOOTHING, 0.5)


def trials(space: Space, count: int) -> list[Trial]:
    found = []
    for number, unit in enumerate(np.random.default_rng(0).random((count, space.size))):
        values = space.decode(unit)
        report = {"segment": 1, "epoch": 1.0, "score": score(values), "standard_error": math.nan}
        end = DIVERGED if values[RATE] > 0.09 else FINISHED
        found.append(Trial(number, Proposal(values), 1, [report], end))
    return found


def test_it_is_the_function_over_the_axes_that_matter():
    known = trials(SPACE, 48)
    found = surface(SPACE, known, best(known), {})
    assert [axis.key for axis in found.axes] == [RATE, SMOOTHING]
    assert found.scores.shape == found.deviations.shape == (40, 40)
    inside = np.array(found.values[0]) < 0.05
    truth = [[score({RATE: x, SMOOTHING: y}) for x in found.values[0]] for y in found.values[1]]
    assert np.abs(found.scores - truth)[:, inside].mean() < 0.08
    assert np.all(found.deviations >= 0)
    assert found.values[0][0] == 1e-4 and found.values[0][-1] == 1e-1
    assert found.others == {DROPOUT: best(known).values[DROPOUT]}
    assert found.shares[0] > found.shares[1] > 0.05 and 0.95 < sum(found.shares) <= 1


def test_importances_choose_the_axes_where_there_are_any():
    known = trials(SPACE, 20)
    found = surface(SPACE, known, best(known), {DROPOUT: 0.6, SMOOTHING: 0.3, RATE: 0.1})
    assert [axis.key for axis in found.axes] == [DROPOUT, SMOOTHING]
    assert found.shares == pytest.approx((0.6, 0.3)) and set(found.others) == {RATE}


def test_words_are_columns():
    space = Space(tuple(map(parsed, (choice(NAME, "adam", "sgd"), log(RATE, 1e-4, 1e-1)))))
    known = trials(space, 20)
    found = surface(space, known, best(known), {})
    assert found.values[0] == ["adam", "sgd"] and found.scores.shape == (40, 2)
    assert np.allclose(found.scores[:, 0], found.scores[:, 1], atol=0.1)
    drawn, _ = search_axes.surfaces(
        found,
        known,
        best(known),
        scale_of(Objective("validation_loss", False), [t.score for t in known]),
    )
    assert drawn["data"][0]["type"] == "heatmap" and drawn["data"][0]["x"] == [0, 1]


@pytest.mark.parametrize("count", [1, 9])
def test_too_few_trials_or_axes_have_none(count):
    known = trials(SPACE, count)
    assert surface(SPACE, known, best(known), {}) is None
    line = Space(SPACE.axes[1:2])
    known = trials(line, 20)
    assert surface(line, known, best(known), {}) is None


def test_the_boxes_are_those_of_the_rounds(tmp_path):
    config = searched(method="coarse_to_fine", trials=24, round_trials=8)
    config.batch_size, config.duration = 128, "20 epochs"
    study, _ = search(config, tmp_path / "ledger.jsonl")
    found = folders.read_search(tmp_path)
    rounds = methods.rounds(config.search, found.space, study.trials)
    assert len(rounds) == 3
    first, second = search_axes.boxes(found, rounds)
    for drawn, key in ((first, RATE), (second, SMOOTHING)):
        boxes = [(shape["y0"], shape["y1"]) for shape in drawn["layout"]["shapes"]]
        assert boxes == [found_round.box[key] for found_round in rounds]
        assert drawn["layout"]["xaxis"]["ticktext"] == ["1 (10%)", "2 (30%)", "3 (100%)"]
        points, stars = drawn["data"]
        assert len(points["y"]) == 24
        assert stars["customdata"] == [found_round.best.number for found_round in rounds]
    search_page.write_report([tmp_path], tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    assert "from coarse to fine" in html and "What a surrogate expects" in html
    for line in (line for found_round in rounds for line in found_round.warnings()):
        assert line in html
