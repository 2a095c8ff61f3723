"""What the tests of commands share: runs, starting and stopping them, reading what they left."""

import contextlib
import importlib
import io
import json
import subprocess
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from absl import flags
from absl.testing import flagsaver
from conftest import ROOT, command_line
from PIL import Image

from research import cli
from research import config as configuration
from research.data import identity
from research.training import setup
from research.training.checkpoints import Checkpoints
from research.training.copies import copied
from research.training.early_stopping import Objective

MAIN = "--config=configs/bn_adam.py"
# Long enough to be interrupted in the middle: one step a dispatch.
LONG = (MAIN, "--config.duration=1500 steps", "--config.checkpoint.every=100 steps",
        "--config.evaluate_every=50 steps", "--config.log_every=10 steps",
        "--config.compute.steps_per_dispatch=1")  # fmt: skip

STREAMED = ("--config.data.memory_mb=0", "--config.data.validation=0.0",
            "--config.log_every=5 steps", "--config.checkpoint.every=20 steps")  # fmt: skip


ACCURACY = Objective("accuracy", higher_is_better=True)  # decides which checkpoint is the best


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


def here(name: str, *arguments: str) -> subprocess.CompletedProcess:
    """A command in this process, for those whose flags no other command here has defined."""
    module = importlib.import_module(f"research.{name}")
    out, err = io.StringIO(), io.StringIO()
    with (
        flagsaver.flagsaver(),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        code = cli._guarded(module.main, cli._parse_flags([name, *map(str, arguments)]))
        flags.FLAGS.mark_as_parsed()
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


def saved_run(workdir: Path, config, step: int = 5, metadata: dict | None = None):
    """A run folder with a checkpoint of the first state, as if it were that of a step; its Setup.

    `metadata` None: what a run keeps of its data.
    """
    run = setup.from_config(config)
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(configuration.to_json(config))
    state = run.init().replace(step=jnp.int32(step))
    if state.averages:  # of several weights, as if they had been alike
        state = state.replace(averages={**state.averages, "count": jnp.int32(step)})
    with Checkpoints(workdir) as checkpoints:
        kept = identity.to_metadata(run.fingerprint()) if metadata is None else metadata
        checkpoints.save(step, run.config, copied(state), kept, ACCURACY)
    return run


def write_classes(root: Path, classes=("cat", "dog"), count: int = 6) -> None:
    """A folder of classes, each with so many colour images of 4 x 5 pixels of their own."""
    for name in classes:
        (root / name).mkdir(parents=True)
        random = np.random.default_rng([*name.encode()])
        for number in range(count):
            pixels = random.integers(0, 256, (4, 5, 3)).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


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
