"""What the tests of commands share: runs, starting and stopping them, reading what they left."""

import json
import subprocess
import time
from pathlib import Path

from conftest import ROOT, command_line

MAIN = "--config=configs/bn_adam.py"
# Long enough to be interrupted in the middle: one step a dispatch.
LONG = (MAIN, "--config.duration=1500 steps", "--config.checkpoint.every=100 steps",
        "--config.evaluate_every=50 steps", "--config.log_every=10 steps",
        "--config.compute.steps_per_dispatch=1")  # fmt: skip

STREAMED = ("--config.data.memory_mb=0", "--config.data.validation=0.0",
            "--config.log_every=5 steps", "--config.checkpoint.every=20 steps")  # fmt: skip


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
