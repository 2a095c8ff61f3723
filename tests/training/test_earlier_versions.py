"""Runs of earlier versions go on: `tests/earlier_version` was written before there were tasks.

The folder holds configs/bn_adam.py with `model.hidden=(4,)`, two members, an average, a line of
metrics every 8 steps, and the checkpoint of step 30 of 40, in the middle of what a line tells.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT

import research
from configs import bn_adam
from research import config as configuration
from research.reporting import page
from research.training import setup

FOLDER = ROOT / "tests" / "earlier_version"


def config_of_today():
    config = bn_adam.get_config()
    config.update_from_flattened_dict(
        {
            "model.hidden": (4,),
            "duration": "40 steps",
            "log_every": "8 steps",
            "evaluate_every": "10 steps",
            "checkpoint.every": "15 steps",
            "ensemble.members": 2,
            "ensemble.lane_mode": "map",
            "averaging.name": "ema",
        }
    )
    return config


@pytest.fixture
def workdir(tmp_path) -> Path:
    return Path(shutil.copytree(FOLDER, tmp_path / "run"))


def events(workdir: Path) -> list[str]:
    path = workdir / "history.jsonl"
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]


def records(workdir: Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


def test_a_killed_run_goes_on_to_the_numbers_that_it_had(workdir):
    """Nothing of its config has another meaning now; no parameter, loss or line is another."""
    wanted = json.loads((workdir / "summary.json").read_text())
    (workdir / "summary.json").unlink()
    result = research.fit(config_of_today(), workdir=workdir)
    assert events(workdir) == ["resume", "finish"]
    assert result.summary["steps"] == 40
    for name in ("test_accuracy", "test_loss", "averaged_test_loss", "test_ece"):
        assert result.summary[name] == pytest.approx(wanted[name], rel=1e-5), name
    again, before = records(workdir), records(FOLDER)
    assert [(r["step"], r["split"]) for r in again] == [(r["step"], r["split"]) for r in before]
    for record, old in zip(again, before, strict=True):
        assert record.get("learning_rate") == old.get("learning_rate")
        for name in ("loss", "accuracy"):
            assert record[name] == pytest.approx(old[name], rel=1e-5)
            assert record["members"][name] == pytest.approx(old["members"][name], rel=1e-5)
    page.write_report([workdir], workdir / "report.html")


def test_a_finished_run_is_finished(workdir, capsys):
    wanted = json.loads((workdir / "summary.json").read_text())
    result = research.fit(config_of_today(), workdir=workdir)
    told = capsys.readouterr()
    assert "is finished" in told.out and "no checkpoint of step 40" in told.err
    assert result.summary == wanted and result.networks == () and result.exit_code == 0


def test_its_checkpoint_is_loaded(workdir):
    loaded = research.load(workdir, step="last")
    (network,) = loaded.networks
    assert loaded.task.objective == "accuracy" and int(network.state.step) == 30
    digits = setup.from_config(config_of_today())
    figures = loaded.evaluate(digits.validation.inputs, digits.validation.labels)
    (old,) = (r for r in records(FOLDER) if (r["step"], r["split"]) == (30, "validation"))
    for name in ("loss", "accuracy"):
        assert figures[name] == pytest.approx(old[name], rel=1e-5)


def test_its_config_is_that_of_today():
    earlier = configuration.read(FOLDER / "config.json")
    changed = configuration.differences(earlier, config_of_today())
    assert set(changed) <= {"batch_size"}
    np.testing.assert_equal(earlier.ensemble.lane_mode, "map")
