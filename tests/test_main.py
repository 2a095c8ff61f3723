"""The commands as users run them: real processes, real signals, real damage."""

import itertools
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest
from conftest import ROOT, command_line

MAIN = "--config=configs/bn_adam.py"
# Long enough to be interrupted in the middle: one step a dispatch.
LONG = (MAIN, "--config.duration=1500 steps", "--config.checkpoint.every=100 steps",
        "--config.evaluate_every=50 steps", "--config.log_every=10 steps",
        "--config.compute.steps_per_dispatch=1")  # fmt: skip


def read(workdir: Path, name: str) -> dict:
    return json.loads((workdir / name).read_text())


def lines(workdir: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in (workdir / name).read_text().splitlines()]


def one_line(result: subprocess.CompletedProcess) -> str:
    """What a user sees of a mistake."""
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stderr
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("error: ")
    return line


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """The main job, run to its end."""
    workdir = tmp_path_factory.mktemp("finished") / "run"
    result = subprocess.run(
        command_line("main", MAIN, f"--workdir={workdir}"), cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "test accuracy" in result.stdout
    return workdir


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> dict:
    """The summary of the long run without an interruption."""
    workdir = tmp_path_factory.mktemp("whole")
    command = command_line("main", *LONG, f"--workdir={workdir}")
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return read(workdir, "summary.json")


def start_and_stop(
    workdir: Path, number: int, after_step: int, arguments=LONG
) -> subprocess.CompletedProcess:
    """Starts a long run, and sends it a signal once it has written of a step."""
    process = subprocess.Popen(
        command_line("main", *arguments, f"--workdir={workdir}"),
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    metrics = workdir / "metrics.jsonl"
    while process.poll() is None:
        written = metrics.read_text() if metrics.exists() else ""
        steps = [json.loads(line)["step"] for line in written.splitlines() if line.endswith("}")]
        if steps and steps[-1] >= after_step:
            process.send_signal(number)
            break
        time.sleep(0.005)
    stdout, stderr = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, stdout, stderr)


def check_whole_metrics(workdir: Path):
    """Every point once, in order, without a gap."""
    for split, every in (("train", 10), ("validation", 50)):
        records = lines(workdir, "metrics.jsonl")
        steps = [record["step"] for record in records if record["split"] == split]
        assert steps == list(range(every, 1501, every))


def test_the_main_job_leaves_the_run_folder(finished):
    summary = read(finished, "summary.json")
    assert summary["test_accuracy"] >= 0.97
    assert summary["steps"] == 305 and summary["epochs"] == pytest.approx(30, abs=0.05)
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
    history = lines(workdir, "history.jsonl")
    changed = next(e for e in history if e["event"] == "hyperparameters changed")
    assert changed["changes"]["optimizer.weight_decay"] == [0.0, 0.1]
    assert changed["step"] == 305
    assert read(workdir, "summary.json")["steps"] == 407
    assert read(workdir, "config.json")["duration"] == "40 epochs"


def test_a_finished_run_is_not_passed_off_as_one_of_other_values(finished, command):
    """Nothing is left to be trained with them: the old result must stay the old result."""
    before = (finished / "summary.json").read_text(), (finished / "config.json").read_text()
    for change in ("--config.seed=1", "--config.duration=10 epochs"):
        line = one_line(command("main", MAIN, f"--workdir={finished}", change))
        assert "has been trained for 305 steps" in line and "another --workdir" in line
    after = (finished / "summary.json").read_text(), (finished / "config.json").read_text()
    assert after == before


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
    for path in (tmp_path / "checkpoints" / str(steps[-1])).rglob("d/*"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(bytes(data))
    resumed = command("main", *LONG, f"--workdir={tmp_path}")
    assert resumed.returncode == 0, resumed.stderr
    assert f"{steps[-1]} is damaged" in resumed.stderr and "Traceback" not in resumed.stderr
    assert f"at step {steps[-2]}" in resumed.stdout
    assert read(tmp_path, "summary.json")["parameters_sha256"] == whole["parameters_sha256"]


def test_divergence_is_told_with_its_step_and_cause(command, tmp_path):
    result = command("main", "--config=configs/plain_sgd.py", f"--workdir={tmp_path}",
                     "--config.optimizer.learning_rate=1e20")  # fmt: skip
    assert result.returncode == 3
    last = result.stderr.strip().splitlines()[-1]
    assert "is not finite at step" in last and "learning_rate = 1e+20 is too high" in last
    assert lines(tmp_path, "history.jsonl")[-1]["event"] == "diverged"
    assert not (tmp_path / "summary.json").exists()


def test_two_processes_do_not_share_a_folder(command, tmp_path):
    first = subprocess.Popen(
        command_line("main", *LONG, f"--workdir={tmp_path}"),
        cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        while not (tmp_path / "history.jsonl").exists():
            time.sleep(0.01)
        os.kill(first.pid, signal.SIGSTOP)
        assert "in use by process" in one_line(command("main", *LONG, f"--workdir={tmp_path}"))
    finally:
        os.kill(first.pid, signal.SIGCONT)
        first.kill()
        first.wait()


BROKEN = "def get_config(:\n"
RAISES = "def get_config():\n    return undefined_name\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--config=configs/nothing.py"], ["'configs/nothing.py': no such file"]),
        (["--config", "configs/nothing.py", "--config.seed=1"], ["no such file"]),
        ([MAIN, "--config.optimizer.learning_rat=1"], ["did you mean 'optimizer.learning_rate'"]),
        ([MAIN, "--config.batch_size=many"], ["config.batch_size", "many"]),
        ([MAIN, "--config.batch_size=5000"], ["config.batch_size = 5000", "1302"]),
        ([MAIN, "--config.model.activation=rellu"], ["model.activation", "did you mean 'relu'"]),
        ([MAIN, "--config.model.name=mpl"], ["model.name = 'mpl'", "did you mean 'mlp'"]),
        ([MAIN, "--config.optimizer.name=adan"], ["optimizer.name", "did you mean 'adam'"]),
        ([MAIN, "--config.averaging.name=eam"], ["averaging.name", "did you mean 'ema'"]),
        ([MAIN, "--config.averaging.decay=1.0"], ["averaging.decay = 1.0 is out of range"]),
        ([MAIN, "--config.averaging.every=0 epochs"], ["averaging.every", "is no interval"]),
        (
            [MAIN, "--config.early_stopping.metric=acuracy"],
            ["early_stopping.metric", "did you mean 'accuracy'"],
        ),
        (
            [MAIN, "--config.early_stopping.patience=2 epochs", "--config.data.validation=0.0"],
            ["early_stopping.patience = '2 epochs' needs a validation split"],
        ),
        (
            [MAIN, "--config.augmentation.names=('flop',)"],
            ["augmentation.names", "did you mean 'flip'"],
        ),
        ([MAIN, "--config.preprocessing.name=zac"], ["preprocessing.name", "did you mean 'zca'"]),
        ([MAIN, "--config.preprocessing=zca"], ["config.preprocessing"]),
        ([MAIN, "--config.preprocessing.epsilon=0.0"], ["preprocessing.epsilon", "at least 1e-06"]),
        (
            [MAIN, "--config.preprocessing.name=pca", "--config.preprocessing.components=65"],
            ["config.preprocessing.components = 65 is more than the 64 features"],
        ),
        (
            [
                MAIN,
                "--config.preprocessing.name=patch_whitening",
                "--config.preprocessing.patch_size=4",
            ],
            ["config.preprocessing.patch_size = 4", "allowed: odd, at most 8"],
        ),
        (
            [MAIN, "--config.data.name=moons", "--config.preprocessing.name=patch_whitening"],
            ["works on images", "(2,)"],
        ),
        ([MAIN, "--config.data.name=mnist", "--config.data.data_dir=tests"], ["mnist", "tests"]),
        ([MAIN, "--config.data.name=moons", "--config.model.name=cnn"], ["takes images"]),
        ([MAIN, "--config.compute.microbatches=5"], ["microbatches = 5", "such as 4 or 8"]),
        ([MAIN, "--config.optimizer.name=lbfgs"], ["'lbfgs' needs", "batch_size = 128", "1302"]),
        (
            [MAIN, "--config.optimizer.decay_multipliers=(('.*', -1.0),)"],
            ["decay_multipliers", "-1.0", "at least 0"],
        ),
        ([MAIN, "--config.optimizer.lookahead_share=1.5"], ["lookahead_share = 1.5", "below 1"]),
        ([MAIN, "--config.schedule.window=often"], ["schedule.window = 'often'", "'10 epochs'"]),
        (
            [MAIN, "--config.ensemble.snapshots=2"],
            ["schedule.name = 'cosine'", "allowed: 'cosine_restarts'"],
        ),
        ([MAIN, "--config.ensemble.lanes=vmpa"], ["ensemble.lanes", "did you mean 'vmap'"]),
        ([MAIN, "--config.duration=0 epochs"], ["config.duration = '0 epochs'"]),
        ([MAIN, "--wrokdir=x"], ["wrokdir"]),
        ([MAIN, "stray"], ["unexpected argument 'stray'"]),
        ([MAIN, "--workdir=README.md"], ["README.md"]),
        ([], ["--config"]),
        (["--config={tmp}/broken.py"], ["broken.py"]),
        (["--config={tmp}/raises.py"], ["undefined_name", "raises.py, line 2"]),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, words, command, tmp_path):
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "raises.py").write_text(RAISES)
    arguments = [argument.format(tmp=tmp_path) for argument in arguments]
    if not any(argument.startswith("--workdir") for argument in arguments):
        arguments.append(f"--workdir={tmp_path}/run")
    line = one_line(command("main", *arguments))
    for word in words:
        assert word in line
    assert not (tmp_path / "run").exists()  # nothing half begun is left behind


def test_evaluate_finds_what_the_summary_says(finished, command):
    accuracy = read(finished, "summary.json")["test_accuracy"]
    for step in ("last", "best"):
        result = command("evaluate", str(finished), f"--step={step}")
        assert result.returncode == 0, result.stderr
        assert "355 examples" in result.stdout
        if step == "last":
            assert f"test: accuracy {accuracy:.4%}" in result.stdout
    result = command("evaluate", str(finished), "--split=train")
    assert "1302 examples" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["evaluate", "tests"], "is not a run folder"),
        (["evaluate"], "usage"),
        (["evaluate", "{run}", "--split=tset"], "did you mean 'test'"),
        (["evaluate", "{run}", "--step=17"], "no checkpoint of step 17"),
        (["report", "tests"], "is not a run folder"),
        (["report"], "usage"),
        (["report", "{run}", "--output=/nowhere/x.html"], "/nowhere/x.html"),
    ],
)
def test_mistakes_with_the_other_commands(arguments, words, finished, command):
    arguments = [argument.format(run=finished) for argument in arguments]
    assert words in one_line(command(*arguments))


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
    assert f"step {best}, test: accuracy {summary['test_accuracy']:.4%}" in tested.stdout
    assert f"loss {summary['averaged_test_loss']:.6f}" in tested.stdout
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


STREAMED = ("--config.data.memory_mb=0", "--config.data.validation=0.0",
            "--config.log_every=5 steps", "--config.checkpoint.every=20 steps")  # fmt: skip


def test_data_streamed_from_disk_train_like_data_in_memory(command, tmp_path):
    """Preprocessing too is fitted to all of them: the same numbers."""
    found = []
    for number, memory in enumerate(("--config.data.memory_mb=0", "--config.data.memory_mb=100")):
        result = command("main", MAIN, *STREAMED, memory, f"--workdir={tmp_path / str(number)}",
                         "--config.duration=60 steps")  # fmt: skip
        assert result.returncode == 0, result.stderr
        found.append(read(tmp_path / str(number), "summary.json"))
    assert found[0]["test_loss"] == pytest.approx(found[1]["test_loss"], rel=1e-4)


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
