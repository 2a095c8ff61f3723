"""Durations beyond the end of a training are told, one line each; those that fit are not."""

import pytest
from runs import MAIN, read

from research.config import default_config
from research.training import durations
from research.tuning.population import Population

SWA = {"averaging.name": "swa"}
PLATEAU = {"schedule.name": "plateau"}
STOPPING = {"early_stopping.patience": "4 steps", "evaluate_every": "2 steps"}


def lines(**changes):
    """Of 20 steps, which are 2 epochs of 1000 examples."""
    config = default_config()
    config.batch_size, config.duration = 100, "2 epochs"
    config.update_from_flattened_dict(changes)
    return durations.warnings(config, 1000)


@pytest.mark.parametrize(
    ("changes", "within", "key"),
    [
        ({"schedule.warmup": "100 epochs"}, {"schedule.warmup": "19 steps"}, "schedule.warmup"),
        ({"schedule.warmup": "100 percent"}, {"duration": "1 steps"}, "schedule.warmup"),
        ({"schedule.name": "piecewise", "schedule.milestones": ("50%", "2 epochs", "30 epochs")},
         {"schedule.milestones": ("50%", "19 steps")}, "milestones: '2 epochs', '30 epochs' lie"),
        (PLATEAU, {"schedule.window": "3 steps"}, "schedule.patience = 5 windows"),
        (PLATEAU | {"schedule.window": "3 steps", "schedule.patience": 6.0},
         {"schedule.patience": 0.0}, "schedule.patience = 6 windows"),
        ({"schedule.name": "cosine_restarts", "schedule.cycles": 21.0}, {"schedule.cycles": 20.0},
         "schedule.cycles = 21"),
        (SWA | {"averaging.start": "20 steps"},
         {"averaging.start": "19 steps", "averaging.every": "1 steps"}, "averaging.start = '20 st"),
        (SWA, {"averaging.every": "5 steps"}, "averaging.every = '1 epochs' does not pass"),
        ({"optimizer.lookahead_steps": 21}, {"optimizer.lookahead_steps": 20}, "lookahead_steps"),
        (STOPPING | {"early_stopping.patience": "10 epochs"}, STOPPING, "early_stopping.patience"),
        # Evaluations at 10 and at the end, which is no early stop; at 5, 10 and 15.
        (STOPPING | {"evaluate_every": "10 steps"},
         {"evaluate_every": "5 steps", "early_stopping.patience": "10 steps"}, "evaluate_every"),
        (STOPPING | {"evaluate_every": "5 steps", "early_stopping.patience": "11 steps"},
         {"early_stopping.patience": "0 steps"}, "early_stopping.patience = '11 steps'"),
        ({"transfer.freeze": (("head/.*", "20 steps"),)},
         {"transfer.freeze": (("head/.*", "19 steps"), (".*", "100%"))}, "'20 steps' of 'head/.*'"),
    ],
)  # fmt: skip
def test_what_lies_beyond_the_end_is_told(changes, within, key):
    (line,) = lines(**changes)
    assert key in line and "steps of config.duration = " in line and "\n" not in line
    assert lines(**{**changes, **within}) == []


def test_what_is_done_at_the_end_anyway_is_no_slip():
    assert lines(**{"checkpoint.every": "9 epochs", "evaluate_every": "9 epochs",
                    "log_every": "9 epochs"}) == []  # fmt: skip
    assert lines(**{"averaging.name": "ema", "averaging.start": "9 epochs"}) == []


def test_nothing_averaged_is_not_passed_off_as_an_average(command, tmp_path):
    swa = (MAIN, "--config.data.name=moons", "--config.model.hidden=(4,)",
           "--config.averaging.name=swa", "--config.duration=20 steps",
           "--config.averaging.every=4 steps")  # fmt: skip
    late = command("main", *swa, f"--workdir={tmp_path}/late", "--config.averaging.start=1 epochs",
                   "--config.averaging.start=9 epochs")  # fmt: skip
    assert late.returncode == 0, late.stderr
    assert "warning: config.averaging.start = '9 epochs' does not come" in late.stderr
    assert "no weights were averaged by step 20: config.averaging.name = 'swa'" in late.stdout
    assert "averaged weights" not in late.stdout
    assert not [key for key in read(tmp_path / "late", "summary.json") if "averaged" in key]


def test_a_search_is_told_the_same():
    config = default_config()
    config.data.name, config.schedule.warmup = "moons", "100 epochs"
    config.duration = "5 epochs"
    (line,) = Population(config, 1).warnings
    assert line.startswith("config.schedule.warmup = '100 epochs' does not end within")
