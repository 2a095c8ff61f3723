"""Faults as they befall real commands: kills at random moments, signals at bad ones, full disks."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, command_line
from runs import LONG, MAIN, lines, one_line, read

SHORT = (MAIN, "--config.duration=40 steps", "--config.checkpoint.every=10 steps",
         "--config.log_every=5 steps", "--config.compute.steps_per_dispatch=5")  # fmt: skip


def start(*arguments) -> subprocess.Popen:
    return subprocess.Popen(
        command_line("main", *arguments), cwd=ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(process: subprocess.Popen, condition) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.005)


def test_five_kills_at_random_moments_change_no_bit():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.soak", "--kills=5", "--steps=200", "--seed=3"],
        cwd=ROOT, capture_output=True, text=True, timeout=1800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("5 kills, ")
    assert "ended with the bits and the metrics of the uninterrupted one" in done.stdout


# Slow where the signal is to come: to read, to compile, to test.
LOADING = ("--config.data.name=spirals", "--config.data.toy_examples=20000000")
COMPILING = ("--config.data.name=digits", "--config.model.name=resnet", "--config.model.depth=110")
TESTING = ("--config.data.name=spirals", "--config.data.toy_examples=1000000",
           "--config.data.validation=0.0", "--config.duration=10 steps",
           "--config.model.hidden=(512,512)")  # fmt: skip


@pytest.mark.parametrize("delay", [0.05, 0.8])
def test_a_polite_kill_is_heard_while_libraries_are_imported(delay, tmp_path):
    process = start(MAIN, f"--workdir={tmp_path / 'run'}")
    maps = Path(f"/proc/{process.pid}/maps")
    wait_for(process, lambda: "numpy" in maps.read_text())
    time.sleep(delay)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in errors, errors


@pytest.mark.parametrize(
    ("slow", "until", "delay"),
    [(LOADING, None, 0.5), (COMPILING, "history.jsonl", 0.5), (TESTING, "checkpoints/10", 0.2)],
    ids=["loading", "compiling", "testing"],
)
def test_a_polite_kill_is_heard_when_nothing_can_be_lost(slow, until, delay, tmp_path):
    process = start(MAIN, *slow, f"--workdir={tmp_path}")
    assert process.stdout.readline()  # all is imported
    if until:
        wait_for(process, (tmp_path / until).exists)
    time.sleep(delay)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert time.monotonic() - begun < 30  # 10 s, on a machine that is not busy with other tests
    assert "the same command" in errors and "Traceback" not in errors
    assert not (tmp_path / "summary.json").exists()
    if slow is TESTING:
        assert (tmp_path / "checkpoints" / "10").is_dir()


def test_a_second_run_is_told_who_holds_the_folder(command, tmp_path):
    first = start(*LONG, f"--workdir={tmp_path}")
    try:
        wait_for(first, (tmp_path / "history.jsonl").exists)
        os.kill(first.pid, signal.SIGSTOP)
        line = one_line(command("main", *LONG, f"--workdir={tmp_path}"))
        assert f"in use by process {first.pid} on {socket.gethostname()}" in line
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.kill()
        first.communicate()


@pytest.mark.parametrize("host", [socket.gethostname(), "elsewhere"])
def test_a_lock_that_was_left_behind_is_taken_over(host, command, tmp_path):
    (tmp_path / ".lock").write_text(json.dumps({"pid": 2**22 + 1, "host": host}))
    done = command("main", *SHORT, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert f"from process {2**22 + 1} on {host}, which is gone" in done.stdout
    assert (tmp_path / ".lock").read_text() == ""


@pytest.fixture
def tiny(tmp_path):
    """A file system of 12 MB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(mount).returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder) -> None:
    with open(folder / "ballast", "wb", buffering=0) as file:
        free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
        file.write(bytes(free))


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_a_disk_that_fills_up_while_training(policy, command, tiny):
    workdir = tiny / "run"
    arguments = (*LONG, f"--config.checkpoint.on_error={policy}", f"--workdir={workdir}")
    process = start(*arguments)
    wait_for(process, (workdir / "checkpoints" / "200").is_dir)
    fill(tiny)
    told = []
    for line in process.stderr:
        told.append(line)
        if "training goes on" in line and (tiny / "ballast").exists():
            (tiny / "ballast").unlink()  # somebody makes room
    process.communicate()
    errors = "".join(told)
    assert "No space left on device" in errors and "Traceback" not in errors
    if policy == "stop":
        assert process.returncode == 2 and errors.strip().splitlines()[-1].startswith("error: ")
        (tiny / "ballast").unlink()
        resumed = command("main", *arguments)
        assert resumed.returncode == 0 and "resuming" in resumed.stdout, resumed.stderr
        assert "damaged" not in resumed.stderr
    else:
        assert process.returncode == 0, errors
    assert read(workdir, "summary.json")["steps"] == 1500
    for split, every in (("train", 10), ("validation", 50)):
        records = [r for r in lines(workdir, "metrics.jsonl") if r["split"] == split]
        assert [record["step"] for record in records] == list(range(every, 1501, every))


def test_a_folder_that_cannot_be_written(command, tiny):
    done = command("main", *SHORT, f"--workdir={tiny / 'run'}")
    assert done.returncode == 0, done.stderr
    subprocess.run(["mount", "-o", "remount,ro", str(tiny)], check=True)
    longer = command("main", *SHORT, "--config.duration=50 steps", f"--workdir={tiny / 'run'}")
    assert "Read-only file system" in one_line(longer)
    for name in ("evaluate", "report"):
        done = command(name, str(tiny / "run"))
        assert done.returncode == (0 if name == "evaluate" else 2), done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("policy", ["stop", "continue"])
def test_a_folder_that_is_removed_while_training(policy, tmp_path):
    process = start(*LONG, f"--config.checkpoint.on_error={policy}", f"--workdir={tmp_path}/run")
    wait_for(process, (tmp_path / "run" / "checkpoints" / "100").is_dir)
    (tmp_path / "run").rename(tmp_path / "away")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2 and "Traceback" not in errors, errors
    last = errors.strip().splitlines()[-1]
    assert last.startswith("error: ") and "/run" in last
    assert ("training goes on" in errors) == (policy == "continue")
    assert (tmp_path / "away" / "checkpoints" / "100").is_dir()


def unfinished(workdir: Path, without: int | None = None) -> None:
    """As after a kill before the end, and before the checkpoint of a step."""
    for name in ("summary.json", "report.html"):
        (workdir / name).unlink()
    if without:
        shutil.rmtree(workdir / "checkpoints" / str(without))


def test_a_kill_between_log_points_changes_no_metric(command, tmp_path):
    """What was added up since the last one is in the checkpoint."""
    run = (MAIN, f"--workdir={tmp_path}", "--config.duration=60 steps",
           "--config.log_every=10 steps", "--config.checkpoint.every=7 steps",
           "--config.evaluate_every=100 steps",
           "--config.compute.steps_per_dispatch=1")  # fmt: skip
    assert command("main", *run).returncode == 0

    def told():
        times = {"seconds", "examples_per_second"}
        records = lines(tmp_path, "metrics.jsonl")
        return [{k: v for k, v in record.items() if k not in times} for record in records]

    before = told()
    unfinished(tmp_path, without=60)  # 56 is left
    done = command("main", *run)
    assert done.returncode == 0 and "at step 56" in done.stdout
    assert told() == before


def test_a_damaged_best_checkpoint_is_told_and_the_next_best_is_tested(command, tmp_path):
    run = (MAIN, f"--workdir={tmp_path}", "--config.early_stopping.patience=6 epochs",
           "--config.early_stopping.metric=loss", "--config.checkpoint.every=1 epochs",
           "--config.optimizer.learning_rate=0.05")  # fmt: skip
    assert command("main", *run).returncode == 0
    best = read(tmp_path, "summary.json")["tested_step"]
    unfinished(tmp_path)
    path = tmp_path / "checkpoints" / str(best) / "arrays.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    done = command("main", *run)
    assert done.returncode == 0, done.stderr
    assert f"checkpoints/{best} is damaged" in done.stderr
    assert read(tmp_path, "summary.json")["tested_step"] not in (best, None)


@pytest.mark.parametrize("name", ["metrics.jsonl", "history.jsonl", "config.json"])
def test_pipes_in_the_place_of_files_are_refused(name, finished, command, tmp_path):
    """Opening one would wait for ever."""
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    unfinished(run)
    (run / name).unlink()
    os.mkfifo(run / name)
    for arguments in (["main", MAIN, f"--workdir={run}"], ["report", str(run)]):
        assert f"{name}: is no file" in one_line(command(*arguments, timeout=60))


def test_damaged_lines_of_metrics_and_a_deep_lock_stop_nothing(finished, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    unfinished(run)
    (run / ".lock").write_text("[" * 1000)
    metrics = run / "metrics.jsonl"
    first, second, third, *rest = metrics.read_text().splitlines(keepends=True)
    number = json.dumps(json.loads(second)["loss"])
    damaged = second.replace(number, '"x"')
    metrics.write_text("".join((first, damaged, third.replace('"split"', '"spilt"'), *rest)))
    done = command("main", MAIN, f"--workdir={run}")
    assert done.returncode == 0, done.stderr


def test_a_run_goes_on_where_its_data_sets_have_moved(finished, command, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(finished, run)
    last = read(run, "summary.json")["steps"]
    unfinished(run, without=last)
    done = command("main", MAIN, f"--workdir={run}", f"--config.data.data_dir={tmp_path}")
    assert done.returncode == 0, done.stderr
    names = ("parameters_sha256", "test_loss")
    assert all(read(run, "summary.json")[n] == read(finished, "summary.json")[n] for n in names)


def test_impatience_makes_no_traceback(tmp_path):
    """A second signal while the process ends."""
    for gap in (0.02, 0.1, 0.35):
        process = start(*LONG, "--config.duration=100000 steps", f"--workdir={tmp_path / str(gap)}")
        wait_for(process, (tmp_path / str(gap) / "checkpoints" / "100").exists)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(gap)  # into the end of the process, wherever it is by then
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 130 and "Traceback" not in errors, (gap, errors)


def test_a_signal_during_the_last_steps_is_heard_before_the_test(tmp_path):
    """They are one dispatch, and end before anything is asked of signals again."""
    process = start(
        MAIN, f"--workdir={tmp_path}", "--config.data.name=spirals", "--config.duration=300 steps",
        "--config.data.toy_examples=20000", "--config.data.validation=0.0",
        "--config.model.hidden=(512,512)", "--config.batch_size=512",
        "--config.compute.steps_per_dispatch=300", "--config.checkpoint.every=300 steps",
        "--config.log_every=300 steps",
    )  # fmt: skip
    wait_for(process, (tmp_path / "tensorboard").exists)
    time.sleep(0.5)  # a dispatch shows nothing of itself while it runs
    over = (tmp_path / "checkpoints" / "300").exists()
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    if over:
        pytest.skip("the steps took less than half a second")
    assert process.returncode == 130, errors
    assert (tmp_path / "checkpoints" / "300").exists()
    assert not (tmp_path / "evaluation.npz").exists()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def processes(
    port: int, *arguments: tuple[str, ...], folders=(ROOT, ROOT)
) -> list[subprocess.Popen]:
    """The processes of one run, by hand, each with arguments of its own; the first may be alone."""
    told = {"ONESTEP_COORDINATOR": f"127.0.0.1:{port}", "ONESTEP_PROCESSES": "2",
            "JAX_PLATFORMS": "cpu"}  # fmt: skip
    return [
        subprocess.Popen(
            command_line("main", *own), cwd=folders[number], text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, env={**os.environ, **told, "ONESTEP_PROCESS": str(number)},
        )
        for number, own in enumerate(arguments)
    ]  # fmt: skip


def test_a_polite_kill_is_heard_while_processes_wait_for_each_other(tmp_path):
    port = free_port()
    (process,) = processes(port, (MAIN, f"--workdir={tmp_path}"))

    def waits() -> bool:  # process 0 is where they meet
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    wait_for(process, waits)
    begun = time.monotonic()
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130 and time.monotonic() - begun < 10


@pytest.mark.parametrize("change", ["--config.seed=1", "--config.batch_size=64"])
def test_processes_with_different_configs_are_refused(change, tmp_path):
    run = (MAIN, f"--workdir={tmp_path / 'run'}")
    for process in processes(free_port(), run, (*run, change)):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2 and "Traceback" not in errors, errors
        assert "started with different --configs" in errors
    assert not (tmp_path / "run").exists()


def test_processes_with_different_data_are_refused(tmp_path):
    """Of the same name, on two hosts."""
    folders = [tmp_path / "one", tmp_path / "two"]
    for number, folder in enumerate(folders):
        folder.mkdir()
        np.savez(folder / "data.npz", inputs=np.eye(40) + number, labels=np.arange(40) % 2)
    run = (f"--config={ROOT / 'configs' / 'bn_adam.py'}", f"--workdir={tmp_path / 'run'}",
           "--config.data.name=npz", "--config.data.path=data.npz",
           "--config.batch_size=8")  # fmt: skip
    for process in processes(free_port(), run, run, folders=folders):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2 and "Traceback" not in errors, errors
        assert "started with different data" in errors
    assert not (tmp_path / "run").exists()
