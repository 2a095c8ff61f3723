"""A search by workers of Ray, and of submitit on this host: real processes, one of them killed."""

import importlib.util
import os
import re
import signal
import subprocess
import time

import pytest
from conftest import ROOT, command_line
from runs import one_line
from test_search import SMALL, outcome

PACKAGES = {"ray": "ray", "slurm": "submitit"}


def flags(engine, workdir):
    return (*SMALL, f"--config.search.engine={engine}", "--config.search.workers=2",
            f"--workdir={workdir}")  # fmt: skip


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The ledger of the search in one process."""
    workdir = tmp_path_factory.mktemp("whole") / "search"
    done = subprocess.run(
        command_line("search", *SMALL, f"--workdir={workdir}"),
        cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return outcome(workdir)


def begun(engine, workdir, *more) -> tuple[subprocess.Popen, list[int]]:
    """A search by two workers, eight reports on; their process ids."""
    if not importlib.util.find_spec(PACKAGES[engine]):
        pytest.skip(f"{PACKAGES[engine]} is not installed (bash setup.sh test,{engine})")
    ledger = workdir / "ledger.jsonl"
    process = subprocess.Popen(
        command_line("search", *flags(engine, workdir), *more),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    told = ""
    while "worker 1: " not in told:
        line = process.stdout.readline()
        assert line, process.communicate()
        told += line
    deadline = time.monotonic() + 200
    while not ledger.exists() or ledger.read_text().count('"report"') < 8:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    return process, list(map(int, re.findall(r"process (\d+)", told)))


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_killed_worker_changes_nothing(engine, whole, tmp_path):
    workdir = tmp_path / "run"
    process, (_, victim) = begun(engine, workdir)
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert out.count("data: moons: ") == 1
    assert "worker 1 is lost (" in err and "the others take its trials" in err
    assert "Traceback" not in err
    # The first line is the config: it has the engine's name.
    assert outcome(workdir)[1:] == whole[1:]
    assert not list(workdir.glob("workers-*"))
    again = subprocess.run(
        command_line("search", *SMALL, f"--workdir={workdir}"),
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert again.returncode == 0 and "best: validation_loss" in again.stdout, again.stderr


@pytest.mark.parametrize("engine", [pytest.param("ray", marks=pytest.mark.slow), "slurm"])
def test_without_workers_it_ends_in_a_line_and_can_go_on(engine, tmp_path):
    """All are killed: exit code 2, and what was trained stands in the ledger."""
    process, victims = begun(engine, tmp_path / "run", "--config.search.trials=100000")
    for victim in victims:
        os.kill(victim, signal.SIGKILL)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 2, err
    *before, last = [line for line in err.splitlines() if not line.startswith("trial ")]
    lost = r"worker (\d) is lost \(.+\)"
    first = [re.fullmatch(f"{lost}: the others take its trials", line)[1] for line in before]
    error = "error: no worker is left; the same command goes on with new ones: "
    assert sorted([*first, re.fullmatch(error + lost, last)[1]]) == ["0", "1"]
    assert [line["event"] for line in outcome(tmp_path / "run")].count("report") >= 8


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_package_that_is_not_there(engine, tmp_path):
    hidden = tmp_path / PACKAGES[engine]
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError")
    done = subprocess.run(
        command_line("search", *flags(engine, tmp_path / "run")),
        cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.environ['PYTHONPATH']}"},
    )  # fmt: skip
    assert f"not installed: bash setup.sh {engine}" in one_line(done)
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
