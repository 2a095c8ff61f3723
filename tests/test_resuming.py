"""Runs that are stopped, killed or damaged go on to the same bits: real processes, real signals."""

import itertools
import signal
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, command_line
from runs import LONG, MAIN, STREAMED, lines, read, start_and_stop


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """The summary of the long run without an interruption."""
    workdir = tmp_path_factory.mktemp("whole")
    command = command_line("main", *LONG, f"--workdir={workdir}")
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return read(workdir, "summary.json")


def check_whole_metrics(workdir: Path):
    """Every point once, in order, without a gap."""
    for split, every in (("train", 10), ("validation", 50)):
        records = lines(workdir, "metrics.jsonl")
        steps = [record["step"] for record in records if record["split"] == split]
        assert steps == list(range(every, 1501, every))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_kill_saves_and_the_same_command_resumes_to_the_same_bits(
    number, whole, command, tmp_path
):
    stopped = start_and_stop(tmp_path, number, after_step=330)
    assert stopped.returncode == 130, stopped.stderr
    assert "the same command resumes" in stopped.stderr and "Traceback" not in stopped.stderr
    assert lines(tmp_path, "history.jsonl")[-1]["event"] == "interrupted"
    resumed = command("main", *LONG, f"--workdir={tmp_path}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"resuming {tmp_path} at step" in resumed.stdout
    summary = read(tmp_path, "summary.json")
    assert summary["parameters_sha256"] == whole["parameters_sha256"]
    assert summary["test_loss"] == whole["test_loss"]
    check_whole_metrics(tmp_path)


@pytest.mark.slow  # five kills at random moments are in tests/test_faults.py
def test_kill_9_again_and_again_loses_nothing_but_the_last_steps(whole, command, tmp_path):
    for after_step in (40, 260, 730, 1150):
        killed = start_and_stop(tmp_path, signal.SIGKILL, after_step)
        assert killed.returncode == -signal.SIGKILL
    resumed = command("main", *LONG, f"--workdir={tmp_path}")
    assert resumed.returncode == 0, resumed.stderr
    assert read(tmp_path, "summary.json")["parameters_sha256"] == whole["parameters_sha256"]
    check_whole_metrics(tmp_path)
    starts = [e["step"] for e in lines(tmp_path, "history.jsonl") if e["event"] == "resume"]
    assert len(starts) >= 3 and starts[-1] >= 1000
    assert all(a <= b for a, b in itertools.pairwise(starts))


def test_a_damaged_checkpoint_is_skipped_for_the_one_before(whole, command, tmp_path):
    stopped = start_and_stop(tmp_path, signal.SIGTERM, after_step=430)
    assert stopped.returncode == 130
    steps = sorted(int(path.name) for path in (tmp_path / "checkpoints").glob("[0-9]*"))
    path = tmp_path / "checkpoints" / str(steps[-1]) / "arrays.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 0xFF
    path.write_bytes(bytes(data))
    resumed = command("main", *LONG, f"--workdir={tmp_path}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{steps[-1]} is damaged" in resumed.stderr and "Traceback" not in resumed.stderr
    assert f"at step {steps[-2]}" in resumed.stdout
    assert read(tmp_path, "summary.json")["parameters_sha256"] == whole["parameters_sha256"]


# Noise enough that validation stops to improve; slow enough that it can be killed.
EARLY = (MAIN, "--config.duration=30000 steps", "--config.data.name=spirals",
         "--config.data.toy_noise=0.3", "--config.optimizer.learning_rate=0.01",
         "--config.schedule.name=constant", "--config.averaging.name=ema",
         "--config.early_stopping.metric=loss", "--config.early_stopping.patience=200 steps",
         "--config.evaluate_every=20 steps", "--config.checkpoint.every=100 steps",
         "--config.log_every=10 steps", "--config.compute.steps_per_dispatch=1")  # fmt: skip


def test_a_run_that_is_stopped_early_stops_there_killed_and_resumed_too(command, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = command("main", *EARLY, f"--workdir={whole}")
    assert result.returncode == 0, result.stderr
    summary = read(whole, "summary.json")
    last, best = summary["steps"], summary["tested_step"]
    assert f"stopped early at step {last} of 30000" in result.stdout and summary["stopped_early"]
    assert [e["event"] for e in lines(whole, "history.jsonl")] == [
        "start", "stopped early", "finish",
    ]  # fmt: skip
    averaged = [r for r in lines(whole, "metrics.jsonl") if r["split"] == "validation_averaged"]
    losses = {record["step"]: record["loss"] for record in averaged}
    assert best == min(losses, key=losses.get) == last - 200
    tested = command("evaluate", str(whole), "--step=best", "--recalibrate")
    assert f"step {best}, test: accuracy {summary['test_accuracy']:.2%}" in tested.stdout
    assert f"loss {summary['averaged_test_loss']:.4g}" in tested.stdout
    assert "by recalibrated ones" in tested.stdout, tested.stderr

    assert start_and_stop(cut, signal.SIGKILL, 50, EARLY).returncode == -signal.SIGKILL
    assert start_and_stop(cut, signal.SIGKILL, last - 90, EARLY).returncode == -signal.SIGKILL
    assert command("main", *EARLY, f"--workdir={cut}").returncode == 0
    again = read(cut, "summary.json")
    timed = ("wall_seconds", "compile_seconds", "examples_per_second")
    assert {**again, **dict.fromkeys(timed)} == {**summary, **dict.fromkeys(timed)}
    # Killed between the last checkpoint and the summary: no step is made again.
    (cut / "summary.json").unlink()
    assert command("main", *EARLY, f"--workdir={cut}").returncode == 0
    assert {**read(cut, "summary.json"), **dict.fromkeys(timed)} == {
        **summary, **dict.fromkeys(timed),
    }  # fmt: skip
    assert lines(cut, "metrics.jsonl")[-1]["step"] == last
    shown = command("main", *EARLY, f"--workdir={cut}")
    assert "is finished" in shown.stdout and "stopped_early: True" in shown.stdout
    # More patience goes on from there.
    more = command("main", *EARLY, f"--workdir={cut}", "--config.duration=2000 steps",
                   "--config.early_stopping.patience=300 steps")  # fmt: skip
    assert more.returncode == 0, more.stderr
    assert read(cut, "summary.json")["steps"] > last


def test_a_streamed_run_resumes_to_the_same_bits(command, tmp_path):
    long = (MAIN, *STREAMED, "--config.duration=400 steps")
    whole = command("main", *long, f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    stopped = start_and_stop(tmp_path / "cut", signal.SIGTERM, after_step=50, arguments=long)
    assert stopped.returncode == 130, stopped.stderr
    resumed = command("main", *long, f"--workdir={tmp_path / 'cut'}")
    assert resumed.returncode == 0 and "resuming" in resumed.stdout, resumed.stderr
    a, b = (read(tmp_path / name, "summary.json") for name in ("whole", "cut"))
    assert a["parameters_sha256"] == b["parameters_sha256"]
    assert a["test_loss"] == b["test_loss"]
