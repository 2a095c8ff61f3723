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


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_killed_worker_changes_nothing(engine, whole, tmp_path):
    if not importlib.util.find_spec(PACKAGES[engine]):
        pytest.skip(f"{PACKAGES[engine]} is not installed (bash setup.sh test,{engine})")
    ledger = tmp_path / "run" / "ledger.jsonl"
    process = subprocess.Popen(
        command_line("search", *flags(engine, ledger.parent)),
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    told = ""
    while "worker 1: " not in told:
        line = process.stdout.readline()
        assert line, process.communicate()
        told += line
    victim = int(re.findall(r"process (\d+)", told)[1])
    deadline = time.monotonic() + 200
    while not ledger.exists() or ledger.read_text().count('"report"') < 8:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.005)
    os.kill(victim, signal.SIGKILL)
    out, err = process.communicate(timeout=200)
    assert process.returncode == 0, err
    assert "worker 1 is lost (" in err and "the others take its trials" in err
    assert "Traceback" not in err
    # The first line is the config: it has the engine's name.
    assert outcome(ledger.parent)[1:] == whole[1:]
    assert not list(ledger.parent.glob("workers-*"))
    again = subprocess.run(
        command_line("search", *SMALL, f"--workdir={ledger.parent}"),
        cwd=ROOT, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert again.returncode == 0 and "best: validation_loss" in again.stdout, again.stderr


@pytest.mark.parametrize("engine", PACKAGES)
def test_a_package_that_is_not_there(engine, tmp_path):
    hidden = tmp_path / PACKAGES[engine]
    hidden.mkdir()
    (hidden / "__init__.py").write_text("raise ModuleNotFoundError")
    done = subprocess.run(
        command_line("search", *flags(engine, tmp_path / "run")),
        cwd=ROOT, capture_output=True, text=True, timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(tmp_path), str(ROOT)))},
    )  # fmt: skip
    assert f"not installed: bash setup.sh {engine}" in one_line(done)
    assert not (tmp_path / "run" / "ledger.jsonl").exists()
