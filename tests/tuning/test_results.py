"""What a search found: the best trial, those as good, and how each is trained again."""

import math
import runpy
import shlex

import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags
from searches import NAME, RATE, SMOOTHING, searched

from research.config import check_config, differences
from research.tuning import results
from research.tuning.config import training
from research.tuning.spaces import Space, choice, linear, log
from research.tuning.trials import DIVERGED, FINISHED, STOPPED, Proposal, Trial


def trial(number, *scores, end=FINISHED, error=math.nan, segments=6, **values):
    reports = [
        {"segment": segment, "step": 10 * segment, "score": score, "standard_error": error}
        for segment, score in enumerate(scores, start=1)
    ]
    values = {
        RATE: 1e-3,
        SMOOTHING: 0.1,
        **{key.replace("__", "."): v for key, v in values.items()},
    }
    return Trial(number, Proposal(values), segments, reports, end)


def test_the_best_was_trained_to_its_end_if_any_was():
    trials = [
        trial(0, 0.5, 0.4),
        trial(1, 0.1, end=STOPPED),
        trial(2, 0.3, 0.3),
        trial(3, math.nan, end=DIVERGED),
        trial(4, 0.3, 0.3),
        Trial(5, Proposal({}), 6),
    ]
    assert results.best(trials).number == 2
    assert results.best([trials[1], trials[3], trials[5]]).number == 1
    further = [trial(0, 0.1, end=STOPPED), trial(1, 0.9, 0.8, end=STOPPED)]
    assert results.best(further).number == 1
    assert results.best([trials[3], trials[5]]) is None and results.best([]) is None
    assert results.all_diverged([trials[3]]) and not results.all_diverged(trials)
    assert not results.all_diverged([])


def test_trials_within_one_standard_error_and_the_simplest_of_them():
    space = Space.from_config(searched())
    trials = [
        trial(0, 0.30, error=0.02, loss__label_smoothing=0.1),
        trial(1, 0.31, error=0.5, loss__label_smoothing=0.3),
        trial(2, 0.3201, error=0.1, loss__label_smoothing=0.5),
        trial(3, 0.305, end=STOPPED, error=0.1),
        trial(4, 0.315, error=0.1, loss__label_smoothing=0.2),
    ]
    equals = results.within_one_standard_error(trials)
    assert [one.number for one in equals] == [0, 1, 4]
    same = dict.fromkeys(range(5), 100)
    assert results.simplest(equals, space, same).number == 1
    assert results.simplest(equals, space, {**same, 4: 50}).number == 4
    assert results.within_one_standard_error([trial(0, 0.3)]) == []
    assert results.within_one_standard_error([]) == []


VALUES = {
    RATE: 0.0012345678901234567,
    NAME: "nesterov",
    "model.hidden": (32, 16),
    "model.weight_standardization": True,
    "schedule.milestones": ("10 percent", "20%"),
}
SPACE = (
    log(RATE, 1e-4, 1e-1),
    choice(NAME, "adam", "nesterov"),
    choice("model.hidden", (64,), (32, 16)),
    choice("model.weight_standardization", True, False),
    choice("schedule.milestones", ("50%",), ("10 percent", "20%")),
)


@pytest.mark.filterwarnings("ignore:the load_module:DeprecationWarning")  # of ml_collections
def test_flags_to_paste_give_the_same_config(tmp_path, monkeypatch):
    config = searched(SPACE)
    found = Trial(0, Proposal(VALUES), 6, [{"segment": 6, "step": 60}], FINISHED)
    line = results.command_line(results.overrides(config, found))
    values = flags.FlagValues()
    holder = config_flags.DEFINE_config_file("config", flag_values=values)
    file = tmp_path / "base.py"
    file.write_text("from research.config import default_config as get_config\n")
    arguments = ["main", f"--config={file}", *shlex.split(line)]
    monkeypatch.setattr("sys.argv", arguments)  # which the flag reads by itself
    values(arguments)
    assert differences(holder.value, results.as_config(config, found)) == {}
    assert holder.value.model.hidden == (32, 16)


def test_a_shorter_training_says_how_long_it_was():
    config = searched(SPACE)
    config.batch_size, config.duration = 128, "20 epochs"
    reports = [
        {"segment": segment, "step": step, "epoch": step * 128 / 397}  # 62 steps are 20 epochs
        for segment, step in ((1, 10), (2, 21), (3, 31))
    ]
    for came_to in (3, 2, 1):  # what its schedule saw, wherever it was stopped
        end = FINISHED if came_to == 3 else STOPPED
        found = Trial(0, Proposal(VALUES), 3, reports[:came_to], end)
        assert results.as_config(config, found).duration == "31 steps"
        flag = "'--config.duration=31 steps'"
        assert flag in results.command_line(results.overrides(config, found))
    assert config.duration == "20 epochs"  # is left as it was
    whole = Trial(0, Proposal(VALUES), 6, reports, STOPPED)
    assert results.as_config(config, whole).duration == config.duration
    # An epoch is as many steps as the trial's own batches make of it: 66 in all, 33 in half.
    found = Trial(0, Proposal({"batch_size": 120}), 3, [{**reports[0], "epoch": 1200 / 397}])
    assert results.as_config(config, found).duration == "33 steps"


@pytest.mark.parametrize("text", ["plain", 'quo"te', "quo'te", "back\\slash", "new\nline", '"""'])
def test_config_files_are_valid_and_complete_whatever_stands_in_them(text, tmp_path):
    config = training(searched())
    config.data.name, config.data.path = "npz", text
    config.transfer.skip = ("a/.*", text)
    config.model.hidden = ()
    config.optimizer.learning_rate = 0.1 + 0.2
    config.loss.l1 = 1e-300
    source = results.config_file(config, "Told.")
    (tmp_path / "best.py").write_text(source)
    found = runpy.run_path(str(tmp_path / "best.py"))["get_config"]()  # as the flag loads a file
    assert differences(found, config) == {}
    assert "config.batch_size" not in source  # what is as always is left out
    check_config(found)


def test_the_range_to_try_lies_below_what_was_tried():
    told = results.ranges_to_try(Space.from_config(searched()), searched())
    assert told.startswith("log('optimizer.learning_rate', 1e-07, 0.0001), below")
    other = searched((linear(SMOOTHING, 0.0, 0.5),))
    other.optimizer.learning_rate = 3.0
    told = results.ranges_to_try(Space.from_config(other), other)
    assert told.startswith("log('optimizer.learning_rate', 0.003, 1), below config.optimizer")
    rates = searched((choice(RATE, 0.5, 2.0),))
    assert "0.0005, 0.5" in results.ranges_to_try(Space.from_config(rates), rates)


def test_the_summary_counts_how_trials_ended():
    report = {"train_loss": 0.1, "train_accuracy": 1.0, "validation_loss": 0.3,
              "validation_accuracy": 0.9}  # fmt: skip
    trials = [trial(0, 0.3, 0.2), trial(1, 0.3, end=STOPPED), trial(2, math.nan, end=DIVERGED)]
    for one in trials:
        for told in one.reports:
            told.update(report)
    found = results.summary(trials)
    assert (found["trials"], found["finished"], found["stopped"]) == (3, 1, 1)
    assert (found["diverged"], found["replaced"], found["segments"]) == (1, 0, 4)
    assert found["best_trial"] == 0 and found["best_values"] == trials[0].values
    assert found["best_step"] == 20 and found["best_score"] == 0.2
    assert np.isnan(found["best_standard_error"]) and found["best_validation_loss"] == 0.3
