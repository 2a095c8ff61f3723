"""The search as users run it: real processes, real kills."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import QUICKLY, ROOT, command_line
from runs import one_line

SMALL = (
    "--config=configs/search_bn_adam.py",
    "--config.data.name=moons",
    "--config.model.hidden=(8,)",
    "--config.batch_size=32",
    "--config.duration=60 steps",
    "--config.search.trials=9",
    "--config.search.segments=6",
    "--config.search.lanes=3",
    "--config.search.lane_mode=sequential",
    "--config.search.scheduler=asha",
    "--config.search.reduction=2",
    "--config.compute.evaluation_batch_size=128",
)


def outcome(workdir: Path) -> list[dict]:
    """The ledger but for its times."""
    lines = [json.loads(line) for line in (workdir / "ledger.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "time"} for line in lines]


@pytest.fixture(scope="module", autouse=True)
def _compiled_as_users_do():
    """A search compiles what it trains at another level than main, to the same bits."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XLA_FLAGS", os.environ.get("XLA_FLAGS", "").replace(QUICKLY, ""))
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A small search from its start to its end: its folder, and what it said."""
    workdir = tmp_path_factory.mktemp("whole") / "search"
    result = subprocess.run(
        command_line("search", *SMALL, f"--workdir={workdir}"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return workdir, result


def test_what_it_says(whole):
    workdir, result = whole
    told = result.stdout
    assert "config.search.trials = 9" in told
    assert "optimizer.learning_rate  log 0.0001 to 0.1" in told
    assert "9 trials by random, scheduler asha; 1 program to compile" in told
    expected = (
        r"program 1: by its shapes about \d+ MB, and about [\d.]+ s for 9 trials, if all are "
        r"trained to their end; compiling\n"
    )
    cost = (
        r"program 1: 3 trials at a time in 3 lanes, one after the other; \d+ MB; compiled in .* s;"
    )
    assert re.search(expected + cost, told)
    assert told.count("data: moons: 900 train, 100 validation, 500 test examples; 2") == 1
    summary = json.loads((workdir / "summary.json").read_text())
    assert re.search(rf"best: validation_loss \d\.\d+ \(trial {summary['best_trial']}\)", told)
    assert "--config.optimizer.learning_rate=" in told
    assert f"python -m research.main --config={workdir / 'best.py'}" in told
    assert "Best so far" in (workdir / "report.html").read_text()
    assert "trial 9/9  best validation_loss" in result.stderr
    assert "/3 lanes busy" in result.stderr
    assert summary["trials"] == 9 == summary["finished"] + summary["stopped"]


def test_main_trains_the_best_trial_to_the_same_bits(whole, command):
    workdir, _ = whole
    summary = json.loads((workdir / "summary.json").read_text())
    run = workdir.parent / "best"
    result = command("main", f"--config={workdir / 'best.py'}", f"--workdir={run}")
    assert result.returncode == 0, result.stderr
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [record for record in records if record["split"] == "validation"][-1]
    assert last["step"] == summary["best_step"] == 60
    assert last["loss"] == summary["best_validation_loss"]
    assert last["accuracy"] == summary["best_validation_accuracy"]


def test_the_same_command_again_trains_nothing_and_says_the_same(whole, command):
    workdir, first = whole
    before = (workdir / "ledger.jsonl").read_bytes(), (workdir / "summary.json").read_bytes()
    again = command("search", *SMALL, f"--workdir={workdir}")
    assert again.returncode == 0, again.stderr
    after = (workdir / "ledger.jsonl").read_bytes(), (workdir / "summary.json").read_bytes()
    assert before == after
    best = [line for line in first.stdout.splitlines() if line.startswith("best: ")]
    assert best and best[0] in again.stdout.splitlines()


@pytest.mark.parametrize(
    "scheduler", ["asha", pytest.param("population_based", marks=pytest.mark.slow)]
)
def test_kills_at_random_moments_change_nothing(whole, tmp_path, scheduler):
    workdir, _ = whole
    arguments = SMALL
    if scheduler != "asha":
        arguments = (*SMALL, f"--config.search.scheduler={scheduler}",
                     "--config.search.grace=2", "--config.search.lanes=9")  # fmt: skip
        workdir = tmp_path / "whole"
        run = subprocess.run(command_line("search", *arguments, f"--workdir={workdir}"), cwd=ROOT)
        assert run.returncode == 0
    killed = tmp_path / "killed"
    ledger = killed / "ledger.jsonl"
    lines = len(outcome(workdir))
    random = np.random.default_rng(7)
    kills = 0
    for target in (*sorted(random.integers(3, lines - 3, size=3)), None):
        process = subprocess.Popen(
            command_line("search", *arguments, f"--workdir={killed}"),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        while process.poll() is None and target is not None:
            if ledger.exists() and ledger.read_bytes().count(b"\n") >= target:
                time.sleep(0.02 * random.random())
                process.send_signal(signal.SIGKILL)
                kills += 1
                break
            time.sleep(0.001)
        _, stderr = process.communicate(timeout=120)
    assert process.returncode == 0, stderr
    assert kills >= 2
    assert outcome(killed) == outcome(workdir)
    assert (killed / "summary.json").read_bytes() == (workdir / "summary.json").read_bytes()
    settings = [line for line in (killed / "best.py").read_text().splitlines() if " = " in line]
    assert all(line in (workdir / "best.py").read_text() for line in settings)


def test_a_polite_kill_ends_it_with_130(tmp_path):
    process = subprocess.Popen(
        command_line("search", *SMALL, "--config.search.trials=100000", f"--workdir={tmp_path}"),
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (tmp_path / "ledger.jsonl").exists() or (tmp_path / "ledger.jsonl").read_text(
    ).count("report") < 20:  # fmt: skip
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in stderr and "the same command goes on" in stderr


def test_the_test_split_is_never_touched(tmp_path, command):
    """Two data sets that differ in their test split alone give the same search."""
    random = np.random.default_rng(0)
    train = {"train_inputs": random.random((1000, 2), np.float32),
             "train_labels": np.arange(1000) % 2}  # fmt: skip
    outcomes = []
    for name, scale in (("one", 1.0), ("other", 1e12)):
        file = tmp_path / "data.npz"
        test = {"test_inputs": scale * random.random((50, 2), np.float32),
                "test_labels": random.integers(0, 2, 50)}  # fmt: skip
        np.savez(file, **train, **test)
        result = command("search", *SMALL, "--config.data.name=npz", f"--config.data.path={file}",
                         "--config.search.trials=2", f"--workdir={tmp_path / name}")  # fmt: skip
        assert result.returncode == 0, result.stderr
        begun, *lines = outcome(tmp_path / name)
        del begun["data"]["test"]  # but its fingerprint
        outcomes.append([begun, *lines])
        assert "test" not in json.loads((tmp_path / name / "summary.json").read_text())
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--config.data.validation=0",), "config.data.validation = 0"),
        (("--config.duration=0 steps",), "config.duration = '0 steps'"),
        (("--config.search.folds=5000",), "folds"),
        (("--config.search.method=randon",), "did you mean 'random'"),
        (("--config.search.metod=random",), "did you mean 'search.method'"),
        (
            ("--config.search.space=(('integer', 'batch_size', 8, 108, ()),)",),
            "101 programs to compile",
        ),
        (  # the first alone would be found by looking at some program
            ("--config.search.space=(('choice', 'batch_size', (32, 16, 2000), ()),)",),
            "config.search.space: the program of batch_size = 2000: config.batch_size = 2000 is "
            "larger than the 900 training examples",
        ),
        (
            (
                "--config.search.space=(('choice', 'model.weight_standardization', (False, True), "
                "()), ('choice', 'model.fit_weights', ('none', 'lsuv'), ()))",
            ),
            "model.weight_standardization = True, model.fit_weights = 'lsuv': config.model.fit_",
        ),
        (  # of the model, and only in training
            ("--config.search.space=(('choice', 'model.ghost_batch_size', (0, 16, 12), ()),)",),
            "the program of model.ghost_batch_size = 12: config.model.ghost_batch_size = 12 does",
        ),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing_behind(arguments, told, tmp_path, command):
    result = command("search", *SMALL, *arguments, f"--workdir={tmp_path / 'run'}")
    assert told in one_line(result)
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
    assert not (tmp_path / "run" / "config.json").exists()


def test_folders_and_commands_that_are_not_for_each_other(whole, tmp_path, command):
    workdir, _ = whole
    told = one_line(command("main", SMALL[0]))
    assert "python -m research.search --config=configs/search_bn_adam.py" in told
    told = one_line(command("search", "--config=configs/bn_adam.py", f"--workdir={tmp_path}"))
    assert "no section `search`: python -m research.main" in told
    (tmp_path / "config.json").write_text("{}")
    assert "holds a run of research.main" in one_line(
        command("search", *SMALL, f"--workdir={tmp_path}")
    )
    told = one_line(command("main", "--config=configs/bn_adam.py", f"--workdir={workdir}"))
    assert "is of a search" in told
    told = one_line(command("search", *SMALL, "--config.search.seed=1", f"--workdir={workdir}"))
    assert "search.seed: 0 -> 1" in told


def test_a_search_whose_trials_all_diverge_says_where_to_look(tmp_path, command):
    config = tmp_path / "config.py"
    text = (ROOT / "configs" / "search_bn_adam.py").read_text()
    config.write_text(text.replace("1e-4, 1e-1", "1e20, 1e30"))
    arguments = (f"--config={config}", *SMALL[1:], f"--workdir={tmp_path / 'run'}")
    result = command("search", *arguments)
    assert result.returncode == 3
    assert "Traceback" not in result.stderr
    last = result.stderr.strip().splitlines()[-1]
    assert "all 9 trials" in last and "log('optimizer.learning_rate', 1e+17, 1e+20)" in last
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["trials"] == summary["diverged"] == 9 and "best_trial" not in summary


@pytest.mark.parametrize("objective", ["validation_rmse", "validation_r2", "validation_macro_f1"])
def test_any_metric_of_the_task_is_an_objective(objective, tmp_path, command):
    """The best trial has the best value of all, in the ledger, the report and Optuna's journal."""
    space = "(log('optimizer.learning_rate', 1e-4, 1e-1),)"
    (tmp_path / "searched.py").write_text(
        (ROOT / "configs" / "search_bn_adam.py")
        .read_text()
        .replace("    return config", f"    search.space = {space}\n    return config")
    )
    arguments = [f"--config={tmp_path / 'searched.py'}", *SMALL[1:], f"--workdir={tmp_path}"]
    arguments += ["--config.search.trials=4", f"--config.search.objective={objective}"]
    if objective == "validation_macro_f1":
        arguments.append("--config.metrics=('macro_f1',)")
    else:
        arguments += ["--config.data.name=diabetes", "--config.task.name=regression"]
    result = command("search", *arguments)
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    reports = [line for line in outcome(tmp_path) if line["event"] == "report"]
    finished = {line["trial"]: line[objective] for line in reports if line["segment"] == 6}
    better = min if objective == "validation_rmse" else max
    assert summary[f"best_{objective}"] == better(finished.values())
    assert finished[summary["best_trial"]] == better(finished.values())
    assert re.search(rf"^best: {objective} -?\d+\.\d+%? ", result.stdout, re.MULTILINE)
    assert objective.replace("_", " ") in (tmp_path / "report.html").read_text()
    for line in reports:
        value = line[objective]
        score = {"rmse": value, "r2": -value, "f1": 1 - value}[objective.rpartition("_")[2]]
        assert line["score"] == pytest.approx(score, abs=1e-12)
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    storage = JournalStorage(JournalFileBackend(str(tmp_path / "optuna_journal.log")))
    study = optuna.load_study(study_name="search", storage=storage)
    assert study.best_value == pytest.approx(better(finished.values()))
    assert study.direction.name == ("MINIMIZE" if better is min else "MAXIMIZE")


def test_best_py_is_plain_assignments(whole):
    workdir, _ = whole
    spec = importlib.util.spec_from_file_location("best", workdir / "best.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    assert "search" not in config and config.model.hidden == (8,)
    assert sys.modules.get("best") is None and os.sep in str(workdir)
