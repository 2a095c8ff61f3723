"""Testing a checkpoint, and several networks as one ensemble."""

import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, command_line
from runs import MAIN, lines, one_line, read


def test_evaluate_finds_what_the_summary_says(finished, command):
    accuracy = read(finished, "summary.json")["test_accuracy"]
    for step in ("last", "best"):
        result = command("evaluate", str(finished), f"--step={step}")
        assert result.returncode == 0, result.stderr
        assert "355 examples" in result.stdout
        if step == "last":
            assert f"test: accuracy {accuracy:.4%}" in result.stdout
    result = command("evaluate", str(finished), "--split=train")
    assert "1298 examples" in result.stdout


@pytest.fixture(scope="module")
def ensemble(tmp_path_factory) -> Path:
    """Two seeds at the ends of two cycles: four networks."""
    workdir = tmp_path_factory.mktemp("ensemble") / "run"
    changes = ("--config.ensemble.members=2", "--config.ensemble.snapshots=2",
               "--config.schedule.name=cosine_restarts", "--config.schedule.cycles=2.0",
               "--config.duration=120 steps", "--config.checkpoint.every=20 steps",
               "--config.data.split_seed=1")  # fmt: skip
    arguments = command_line("main", MAIN, *changes, f"--workdir={workdir}")
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "by averaged predictions (each of 4 alone: accuracy" in result.stdout
    return workdir


def test_an_ensemble_leaves_its_figures_beside_those_of_its_members(ensemble, command):
    summary = read(ensemble, "summary.json")
    members = summary["members"]
    assert [(m["seed"], m["step"]) for m in members] == [(0, 60), (1, 60), (0, 120), (1, 120)]
    losses = [member["test_loss"] for member in members]
    assert summary["members_mean"]["test_loss"] == pytest.approx(sum(losses) / 4)
    assert summary["test_loss"] < summary["members_mean"]["test_loss"]  # Jensen's inequality
    assert (ensemble / "checkpoints" / "60").exists()  # not among the newest two
    for record in lines(ensemble, "metrics.jsonl"):
        assert len(record["members"]["loss"]) == len(record["members"]["accuracy"]) == 2
        mean = sum(record["members"]["loss"]) / 2
        if record["split"] == "train":
            assert record["loss"] == pytest.approx(mean)
        else:
            assert record["loss"] < mean
    result = command("evaluate", str(ensemble), "--step=snapshots")
    *each, whole = result.stdout.splitlines()
    assert f"ensemble of 4, test: accuracy {summary['test_accuracy']:.4%}" in whole
    assert f"loss {summary['test_loss']:.6f}" in whole
    assert len(each) == 4
    assert f"step 60 seed 1, test: accuracy {members[1]['test_accuracy']:.4%}" in each[1]
    assert "Ensemble of 4" in (ensemble / "report.html").read_text()


def test_several_runs_are_one_ensemble(ensemble, finished, command, tmp_path):
    result = command("evaluate", str(finished), str(ensemble))
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 4 and "ensemble of 3, test" in result.stdout
    line = one_line(command("evaluate", str(finished), str(ensemble), "--split=validation"))
    assert "runs of other data: the validation split of" in line
    line = one_line(command("evaluate", str(finished), "--step=snapshots"))
    assert "keeps none" in line
    arguments = (MAIN, "--config.data.name=moons", "--config.duration=1 steps")
    assert command("main", *arguments, f"--workdir={tmp_path}").returncode == 0
    line = one_line(command("evaluate", str(finished), str(tmp_path)))
    assert "runs of other classes" in line and "has 10 (0, 1, 2 ...)" in line


def test_data_that_have_moved_are_found_where_they_are_now(command, tmp_path):
    random = np.random.default_rng(0)
    arrays = {"inputs": random.normal(size=(60, 4)), "labels": np.arange(60) % 3}
    np.savez(tmp_path / "here.npz", **arrays)
    run = tmp_path / "run"
    done = command(
        "main", MAIN, f"--workdir={run}", "--config.data.name=npz", "--config.batch_size=8",
        f"--config.data.path={tmp_path / 'here.npz'}", "--config.duration=5 steps",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (tmp_path / "here.npz").rename(tmp_path / "there.npz")
    assert "here.npz': no such file" in one_line(command("evaluate", str(run)))
    done = command("evaluate", str(run), f"--data_dir={tmp_path / 'there.npz'}")
    assert done.returncode == 0 and "12 examples" in done.stdout
