"""The run folder of the main job, and what the same command, or another, makes of it."""

import os
import shutil

import pytest
from runs import MAIN, STREAMED, lines, one_line, read


def test_the_main_job_leaves_the_run_folder(finished):
    summary = read(finished, "summary.json")
    assert summary["test_accuracy"] >= 0.97
    assert summary["steps"] == 304 and summary["epochs"] == pytest.approx(30, abs=0.05)
    assert summary["parameter_count"] == 64 * 64 * 2 + 4 * 64 + 64 * 10 + 10
    assert len(summary["parameters_sha256"]) == 64
    for key in ("test_loss", "wall_seconds", "compile_seconds", "examples_per_second"):
        assert summary[key] > 0
    config = read(finished, "config.json")
    assert config["optimizer"]["learning_rate"] == 3e-3
    environment = read(finished, "environment.json")
    assert environment["cpu_cores"] == len(os.sched_getaffinity(0)) and environment["jaxlib"]
    train = [record for record in lines(finished, "metrics.jsonl") if record["split"] == "train"]
    assert len(train) == 30
    for key in ("step", "epoch", "loss", "accuracy", "learning_rate", "examples_per_second"):
        assert all(record[key] >= 0 for record in train)
    assert train[0]["learning_rate"] == pytest.approx(3e-3, rel=0.01)
    assert train[-1]["learning_rate"] < 1e-6
    assert [entry["event"] for entry in lines(finished, "history.jsonl")] == ["start", "finish"]
    assert len(list((finished / "checkpoints").glob("[0-9]*"))) in (2, 3)


def test_tensorboards_own_reader_reads_the_events(finished):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    for split in ("train", "validation"):
        records = [r for r in lines(finished, "metrics.jsonl") if r["split"] == split]
        scalars = events.Scalars(f"{split}/loss")
        assert [event.step for event in scalars] == [record["step"] for record in records]
        assert [event.value for event in scalars] == pytest.approx([r["loss"] for r in records])
    assert "train/learning_rate" in events.Tags()["scalars"]


def test_the_same_command_on_a_finished_run_prints_its_summary(finished, command):
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    result = command("main", MAIN, f"--workdir={finished}")
    assert result.returncode == 0 and "is finished" in result.stdout
    assert "test_accuracy: 0.9" in result.stdout and "parameters_sha256: " in result.stdout
    after = {path: path.stat().st_mtime_ns for path in finished.rglob("*") if path.is_file()}
    assert after == before


def test_another_config_in_the_folder_is_refused_with_the_keys(finished, command):
    result = command("main", MAIN, f"--workdir={finished}", "--config.model.activation=tanh")
    assert "model.activation: 'relu' -> 'tanh'" in one_line(result)
    assert read(finished, "config.json")["model"]["activation"] == "relu"


def test_traced_numbers_may_change_and_are_recorded(finished, command, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(finished, workdir)
    result = command("main", MAIN, f"--workdir={workdir}", "--config.duration=40 epochs",
                     "--config.optimizer.weight_decay=0.1")  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "resuming" in result.stdout and "config.duration = '40 epochs'" in result.stdout
    assert "data: digits: 1298 train, 144 validation, 355 test examples; 10" in result.stdout
    history = lines(workdir, "history.jsonl")
    changed = next(e for e in history if e["event"] == "hyperparameters changed")
    assert changed["changes"]["optimizer.weight_decay"] == [0.0, 0.1]
    assert changed["step"] == 304
    assert read(workdir, "summary.json")["steps"] == 406
    assert read(workdir, "config.json")["duration"] == "40 epochs"


def test_a_finished_run_is_not_passed_off_as_one_of_other_values(finished, command):
    """Nothing is left to be trained with them: the old result must stay the old result."""
    before = (finished / "summary.json").read_text(), (finished / "config.json").read_text()
    for change in ("--config.seed=1", "--config.duration=10 epochs"):
        line = one_line(command("main", MAIN, f"--workdir={finished}", change))
        assert "has been trained for 304 steps" in line and "another --workdir" in line
    after = (finished / "summary.json").read_text(), (finished / "config.json").read_text()
    assert after == before


def test_divergence_is_told_with_its_step_and_cause(command, tmp_path):
    result = command("main", "--config=configs/plain_sgd.py", f"--workdir={tmp_path}",
                     "--config.optimizer.learning_rate=1e20")  # fmt: skip
    assert result.returncode == 3
    last = result.stderr.strip().splitlines()[-1]
    assert "is not finite at step" in last and "learning_rate = 1e+20 is too high" in last
    assert lines(tmp_path, "history.jsonl")[-1]["event"] == "diverged"
    summary = read(tmp_path, "summary.json")
    assert summary["diverged"] is True and summary["steps"] == 2 and summary["epochs"] < 1
    assert f", first in {summary['layer']}; likely cause: {summary['cause']}" in last
    assert not [key for key in summary if key.startswith("test_")]
    page = (tmp_path / "report.html").read_text()
    assert "Diverged: the training loss is not finite at step 2, first in " in page
    assert "It was not tested." in page and result.stdout.strip().endswith("/report.html")


def test_data_streamed_from_disk_train_like_data_in_memory(command, tmp_path):
    """Preprocessing too is fitted to all of them: the same numbers."""
    found = []
    for number, memory in enumerate(("--config.data.memory_mb=0", "--config.data.memory_mb=100")):
        result = command("main", MAIN, *STREAMED, memory, f"--workdir={tmp_path / str(number)}",
                         "--config.duration=60 steps")  # fmt: skip
        assert result.returncode == 0, result.stderr
        found.append(read(tmp_path / str(number), "summary.json"))
    assert found[0]["test_loss"] == pytest.approx(found[1]["test_loss"], rel=1e-4)
