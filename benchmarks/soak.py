"""Kills a run again and again at random moments: python -m benchmarks.soak --kills=100.

Half of the kills (`kill -9`) fall anywhere into the time that a whole run takes from its start,
half into training, at a random step; a checkpoint is written every few steps. A run that gets to
its end is held to the bits and the metrics of one that was never killed, and another one begins,
until all kills are made and the last run is through.
"""

import argparse
import dataclasses
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

LOG_EVERY = 5
COMMAND = (
    sys.executable, "-m", "research.main", "--config=configs/bn_adam.py",
    f"--config.log_every={LOG_EVERY} steps", "--config.evaluate_every=25 steps",
    "--config.checkpoint.every=5 steps", "--config.compute.steps_per_dispatch=1",
)  # fmt: skip


@dataclasses.dataclass
class Tally:
    """What came of the kills."""

    kills: int = 0
    in_training: int = 0  # kills after the first new metrics of a process
    runs: int = 0  # that got to their end
    lost_steps: int = 0  # trained again after a kill: at most to the log point after the last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--steps", type=int, default=400, help="of each run")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        chance = random.Random(arguments.seed)
        tally = soak(Path(folder), arguments.kills, arguments.steps, chance)
    print(
        f"{tally.kills} kills, {tally.in_training} of them in training: {tally.runs} runs of "
        f"{arguments.steps} steps ended with the bits and the metrics of the uninterrupted one; at "
        f"most {tally.lost_steps} steps were trained again after a kill; "
        f"{time.perf_counter() - started:.0f} s"
    )


def soak(folder: Path, kills: int, steps: int, chance: random.Random) -> Tally:
    """Raises SystemExit at the first difference."""
    tally = Tally()
    started = time.perf_counter()
    whole = finish(folder / "whole", steps)
    seconds = time.perf_counter() - started
    while True:
        workdir = folder / str(tally.runs)
        while tally.kills < kills and not (workdir / "summary.json").exists():
            kill(workdir, steps, seconds, chance, tally)
        summary = finish(workdir, steps)
        if summary["parameters_sha256"] != whole["parameters_sha256"]:
            raise SystemExit(f"{workdir}: other parameters after {tally.kills} kills")
        if summary["test_loss"] != whole["test_loss"]:
            raise SystemExit(f"{workdir}: another test loss after {tally.kills} kills")
        logged = trained(workdir, strict=True)
        if logged != list(range(LOG_EVERY, steps + 1, LOG_EVERY)):
            raise SystemExit(f"{workdir}: steps twice, or missing, in metrics.jsonl: {logged}")
        tally.runs += 1
        if tally.kills >= kills:
            return tally


def kill(workdir: Path, steps: int, seconds: float, chance: random.Random, tally: Tally) -> None:
    """Starts the run, or goes on with it, and kills it."""
    before = trained(workdir)
    process = subprocess.Popen(
        command(workdir, steps), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    if chance.random() < 0.5:
        wait(process, time.perf_counter() + chance.uniform(0, seconds))
    else:
        step = chance.uniform(max(before, default=0), steps)
        while process.poll() is None and max(trained(workdir), default=0) < step:
            time.sleep(0.005)
        wait(process, time.perf_counter() + chance.uniform(0, 0.1))
    if process.poll() is not None:
        _, errors = process.communicate()
        if process.returncode:
            raise SystemExit(f"{workdir}: exit code {process.returncode}: {errors.decode()}")
        return
    in_training = is_training(workdir, before)
    process.kill()
    process.communicate()
    tally.kills += 1
    tally.in_training += in_training
    saved = [int(path.name) for path in (workdir / "checkpoints").glob("*") if path.name.isdigit()]
    logged = max(trained(workdir), default=0)
    tally.lost_steps = max(tally.lost_steps, logged + LOG_EVERY - max(saved, default=0))
    print(f"{tally.kills}: {workdir.name} at step {logged}", file=sys.stderr)


def is_training(workdir: Path, before: list[int]) -> bool:
    """Whether the process has written metrics that were not there when it began."""
    return max(trained(workdir), default=0) > max(before, default=0)


def wait(process: subprocess.Popen, until: float) -> None:
    while process.poll() is None and time.perf_counter() < until:
        time.sleep(0.002)


def trained(workdir: Path, strict: bool = False) -> list[int]:
    """The steps of the training records; where it is not strict, a half line is passed over."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    if lines and not strict and not lines[-1].endswith("}"):
        lines.pop()
    records = map(json.loads, lines)
    return [record["step"] for record in records if record["split"] == "train"]


def command(workdir: Path, steps: int) -> list[str]:
    return [*COMMAND, f"--config.duration={steps} steps", f"--workdir={workdir}"]


def finish(workdir: Path, steps: int) -> dict:
    done = subprocess.run(command(workdir, steps), capture_output=True, text=True)
    if done.returncode or "Traceback" in done.stderr:
        raise SystemExit(f"{workdir}: exit code {done.returncode}: {done.stderr}")
    return json.loads((workdir / "summary.json").read_text())


if __name__ == "__main__":
    main()
