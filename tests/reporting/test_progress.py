"""What a user watches: lines where there is no terminal, a bar where there is one."""

import os
import pty
import subprocess
import sys

import pytest

from research.reporting.progress import Progress, SearchProgress

METRICS = {"loss": 0.5, "accuracy": 0.25, "examples_per_second": 12345.6}
SCRIPT = f"""
from research.reporting.progress import Progress
with Progress(100, 10.0) as progress:
    progress.update(50, {METRICS!r})
    progress.update(100, {{**{METRICS!r}, "validation_accuracy": 0.75}})
"""


def test_lines_tell_all_but_not_too_often(capsys):
    with Progress(1000, 10.0) as progress:
        for step in range(1, 1001):
            progress.update(step, {**METRICS, "validation_accuracy": 0.75})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # the first and the last: less than a second has passed
    for words in ("epoch 100.0/100.0", "step 1000/1000", "loss 0.5000", "accuracy 25.00%",
                  "validation 75.00%", "12,346 examples/s", "0:00:00 left"):  # fmt: skip
        assert words in lines[-1]


@pytest.mark.parametrize(
    ("objective", "metrics", "told"),
    [
        ("rmse", {"rmse": 41.5, "validation_rmse": 43.25}, "loss 0.5000  rmse 41.5000  "
         "validation 43.2500  10 examples/s"),
        ("macro_f1", {"accuracy": 0.9, "validation_macro_f1": 0.75}, "loss 0.5000  "
         "validation 75.00%  10 examples/s"),
        ("loss", {"validation_loss": 0.25}, "loss 0.5000  validation 0.2500  10 examples/s"),
    ],
)  # fmt: skip
def test_the_objective_stands_beside_the_loss(objective, metrics, told, capsys):
    with Progress(10, 10.0, objective=objective) as progress:
        progress.update(10, {"loss": 0.5, "examples_per_second": 10.0, **metrics})
    assert told in capsys.readouterr().err


def test_a_terminal_gets_a_bar():
    ours, theirs = pty.openpty()
    environment = {**os.environ, "COLUMNS": "150", "TERM": "xterm"}
    with subprocess.Popen([sys.executable, "-c", SCRIPT], stderr=theirs, env=environment) as run:
        run.wait(timeout=60)
        os.close(theirs)
        shown = os.read(ours, 100_000).decode()
    os.close(ours)
    assert "100%" in shown and "validation 75.00%" in shown and "left" in shown


STANDING = {"total": 8, "best": "best validation_loss 0.1000 (trial 2)", "busy": 3, "lanes": 4}


def test_lines_of_a_search(capsys):
    with SearchProgress() as progress:
        for ended in range(4, 9):
            progress.update(done=ended + 0.0, ended=ended, **STANDING)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # the first and the last
    assert lines[0] == "trial 4/8  best validation_loss 0.1000 (trial 2)  3/4 lanes busy"
    assert "trial 8/8" in lines[1] and "trials/min" in lines[1] and "0:00:00 left" in lines[1]


def test_the_speed_of_a_search_is_that_of_this_process(monkeypatch, capsys):
    now = 1000.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    with SearchProgress() as progress:
        progress.update(done=4.0, ended=4, **STANDING)
        now += 30
        progress.update(done=6.0, ended=5, **STANDING)
    assert "4 trials/min  0:00:30 left" in capsys.readouterr().err
