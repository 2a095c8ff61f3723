"""When a run has had enough: by the records alone."""

import pytest

from research import tasks
from research.config import default_config
from research.errors import UserError
from research.training import setup
from research.training.early_stopping import message, objective, verdict


def decided(config):
    """Return what decides a run of two classes."""
    return objective(config, tasks.build(config, ("yes", "no")))


def judged(values, patience, split="validation", **changes):
    """The verdicts as the records come in, one every 10 steps."""
    config = default_config()
    config.update_from_flattened_dict(changes)
    records = []
    for number, value in enumerate(values, 1):
        for of, other in (("train", 0.5), ("validation", 0.5), ("validation_averaged", 0.5)):
            found = value if of == split else other
            records.append({"step": 10 * number, "split": of, "loss": found, "accuracy": found})
        yield verdict(config, decided(config), records, patience)


@pytest.mark.parametrize(
    ("values", "patience", "metric", "minimal", "stops_at"),
    [
        ([0.1, 0.2, 0.3, 0.2, 0.1, 0.1], 30, "accuracy", 0.0, 60),
        ([0.1, 0.2, 0.3, 0.2, 0.1, 0.1], 40, "accuracy", 0.0, None),
        ([0.1, 0.2, 0.3, 0.2, 0.1, 0.1], 0, "accuracy", 0.0, None),
        ([0.1, 0.2, 0.2, 0.2], 20, "accuracy", 0.0, 40),  # equal is no improvement
        ([0.3, 0.2, 0.1, 0.2, 0.15], 20, "loss", 0.0, 50),
        ([0.1, 0.2, 0.3, 0.4], 20, "loss", 0.0, 30),
        ([0.5, 0.52, 0.54, 0.56, 0.58], 20, "accuracy", 0.03, None),  # small steps add up
        ([0.5, 0.51, 0.52, 0.56], 20, "accuracy", 0.03, 30),
        ([0.5, 0.4, 0.4, 0.4], 30.4, "accuracy", 0.0, 40),  # 3 epochs of 10.13 steps
        ([0.5], 10, "accuracy", 0.0, None),
    ],
)
def test_patience(values, patience, metric, minimal, stops_at):
    changes = {"early_stopping.metric": metric, "early_stopping.minimal_improvement": minimal}
    found = [v.enough for v in judged(values, patience, **changes)]
    first = found.index(True) if True in found else None
    assert (None if first is None else 10 * (first + 1)) == stops_at


def test_a_new_best_is_better_than_all_before():
    values = [0.3, 0.2, 0.3, 0.4, 0.35]
    assert [v.new_best for v in judged(values, 0)] == [True, False, False, True, False]
    found = judged(values, 0, **{"early_stopping.metric": "loss"})
    assert [v.new_best for v in found] == [True, True, False, False, False]


def test_averaged_weights_decide_where_they_are_kept():
    falling = [0.5, 0.4, 0.3]
    found = judged(falling, 10, split="validation_averaged", **{"averaging.name": "ema"})
    assert [v.enough for v in found] == [False, True, True]
    found = judged(falling, 10, split="validation_averaged")
    assert [v.new_best for v in found] == [True, False, False]  # equal: of the raw ones


@pytest.mark.parametrize(
    ("values", "metric", "minimal", "words"),
    [
        ([0.57, 0.8, 0.92], "accuracy", 0.9,
         "validation accuracy has improved by 0.35, from 0.57 to 0.92, since step 10, which is not "
         "more than config.early_stopping.minimal_improvement = 0.9 ("),
        ([0.1, 0.5, 0.52, 0.51], "accuracy", 0.1, "by 0.02, from 0.5 to 0.52, since step 20"),
        ([0.9, 0.5, 0.45], "loss", 0.1, "validation loss has improved by 0.05, from 0.5 to 0.45"),
        ([0.5, 0.6, 0.4], "accuracy", 0.0, "has not improved on 0.6 since step 20 ("),
        ([0.5, 0.6, 0.7], "loss", 0.3, "validation loss has not improved on 0.5 since step 10 ("),
    ],
)  # fmt: skip
def test_what_stopped_it_is_told_with_its_keys(values, metric, minimal, words):
    config = default_config()
    settings = config.early_stopping
    settings.metric, settings.minimal_improvement, settings.patience = metric, minimal, "2 epochs"
    records = [{"step": 10 * number, "split": "validation", metric: value}
               for number, value in enumerate(values, 1)]  # fmt: skip
    line = message(config, decided(config), records, 40, 100)
    assert line.startswith("stopped early at step 40 of 100: ") and words in line
    assert line.endswith("(config.early_stopping.patience = '2 epochs')")


def test_nothing_evaluated_is_nothing_decided():
    config = default_config()
    assert verdict(config, decided(config), [], 10) == (False, False)


def test_the_task_s_first_metric_decides_unless_another_is_named():
    config = default_config()
    assert decided(config) == ("accuracy", True)
    config.early_stopping.metric = "loss"
    assert decided(config) == ("loss", False)
    config.metrics = ("log_loss", "recall")
    config.early_stopping.metric = "log_loss"
    assert decided(config) == ("log_loss", False)


@pytest.mark.parametrize("metric", ["acuracy", "recall", "rmse", "auto "])
def test_what_is_not_reported_or_has_no_direction_cannot_decide(metric):
    config = default_config()
    config.metrics, config.early_stopping.metric = ("recall",), metric
    with pytest.raises(UserError, match=f"early_stopping.metric = '{metric}' is unknown") as error:
        decided(config)
    assert "allowed: accuracy, loss" in str(error.value) and "\n" not in str(error.value)
    config.data.name = "moons"
    with pytest.raises(UserError, match="early_stopping.metric"):
        setup.from_config(config)
