"""The objective of a search: any metric of the task, its direction, and its score."""

import json

import pytest
from searches import search, searched

from research.config import default_config
from research.errors import UserError
from research.reporting import search_page
from research.reporting import searched as folders
from research.reporting.scales import scale_of
from research.tuning.config import default_search
from research.tuning.reports import Objective, Report
from research.tuning.results import score_text
from research.tuning.spaces import log


def config_of(objective, **changes):
    config = default_config()
    config.search = default_search()
    config.search.objective = objective
    config.update_from_flattened_dict(changes)
    return config


REGRESSION = {"task.name": "regression", "data.name": "diabetes"}


@pytest.mark.parametrize(
    ("objective", "changes", "value", "score", "title"),
    [
        ("validation_loss", {}, 0.25, 0.25, "validation loss"),
        ("validation_accuracy", {}, 0.75, 0.25, "1 - validation accuracy"),
        ("validation_macro_f1", {"metrics": ("macro_f1",)}, 0.75, 0.25, "1 - validation macro f1"),
        ("validation_rmse", REGRESSION, 55.5, 55.5, "validation rmse"),
        ("validation_r2", REGRESSION, 0.25, -0.25, "-validation r2"),
        ("validation_r2", REGRESSION, -3.0, 3.0, "-validation r2"),
    ],
)
def test_scores_are_minimised_and_read_back(objective, changes, value, score, title):
    found = Objective.from_config(config_of(objective, **changes))
    assert found.score(value) == score and found.value(score) == value
    assert scale_of(found, [score]).title == title
    line = {"config": {"search": {"objective": objective}}}
    assert Objective.from_ledger({**line, "higher_is_better": found.higher_is_better}) == found
    if objective in ("validation_loss", "validation_accuracy"):  # older ledgers
        assert Objective.from_ledger(line) == found


@pytest.mark.parametrize(
    ("objective", "changes", "told"),
    [
        ("validation_macro_f1", {}, "allowed: validation_accuracy, .*validation_loss"),
        ("validation_rsme", REGRESSION, "did you mean 'validation_rmse'"),
        ("validation_accuracy", REGRESSION, "allowed: validation_loss, .*validation_r2"),
        ("rmse", REGRESSION, "allowed: validation_loss, .*validation_rmse"),
        ("validation_recall", {"metrics": ("recall",)}, "allowed: "),  # one number for each class
    ],
)
def test_metrics_that_cannot_be_the_objective(objective, changes, told):
    with pytest.raises(UserError, match=f"config.search.objective = '{objective}'.*{told}"):
        Objective.from_config(config_of(objective, **changes))


def test_a_metric_that_is_not_one_number_is_told():
    report = Report(3, 1.0, {"loss": [1.0]}, {"loss": [1.0]}, True)
    with pytest.raises(UserError, match="'validation_odd' is not one number .*: validation_loss"):
        Objective("validation_odd", False).of(report)


def test_a_ledger_from_before_directions_is_drawn_and_goes_on(tmp_path):
    config = searched(objective="validation_accuracy", trials=4)
    path = tmp_path / "ledger.jsonl"
    search(config, path)
    whole = path.read_text()
    first, *rest = map(json.loads, whole.splitlines())
    assert first.pop("higher_is_better") is True
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, *rest)))
    assert folders.read_search(tmp_path).objective == Objective("validation_accuracy", True)
    search_page.write_report([tmp_path], tmp_path / "report.html")
    assert "1 - validation accuracy" in (tmp_path / "report.html").read_text()
    _, populations = search(config, path)
    assert not populations  # nothing is trained again


def test_the_last_line_prints_shares_in_percent():
    config = searched(space=(log("optimizer.learning_rate", 1e-4, 1e-1),))
    report = {"standard_error": float("nan"), "validation_macro_f1": 0.9375, "validation_r2": 0.5}

    class Trial:
        reports, number = [report], 3

    for objective, text in (("validation_macro_f1", "93.75%"), ("validation_r2", "0.5")):
        config.search.objective = objective
        assert score_text(config, Trial) == f"{objective} {text} (trial 3)"
