"""Times everything beside what users would pick instead: python -m benchmarks.run [WORKLOAD...]

Contenders take turns, round by round, each in a process of its own that lives through all rounds,
so that a noisy machine is noisy for all. The table goes to benchmarks/README.md, by hardware.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.workloads import WORKLOADS

FOLDER = Path(__file__).parent
JOB = "job"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", help=f"{', '.join(WORKLOADS)}, {JOB}; default: all")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    names = arguments.workloads or [*WORKLOADS, JOB]
    path = FOLDER / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    here = results.setdefault(hardware(), {})
    for name in names:
        here[name] = (
            time_job(arguments.rounds) if name == JOB else time_workload(name, arguments.rounds)
        )
        print(json.dumps({name: here[name]}, indent=1), flush=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    write_table(results)


def time_workload(name: str, rounds: int) -> dict:
    """{contender: {'seconds': [...], 'peak_mb': ...}}"""
    workers, found = {}, {}
    for contender in WORKLOADS[name].contenders:
        workers[contender] = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", contender, name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        answer(workers[contender])  # before the next one starts
    for _ in range(rounds):
        for contender, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            reply = answer(worker)
            found.setdefault(contender, {"seconds": []})["seconds"].append(reply["seconds"])
            found[contender]["peak_mb"] = reply["peak_mb"]
    for worker in workers.values():
        worker.communicate()
    return found


def answer(worker) -> dict:
    while line := worker.stdout.readline():
        if line.startswith("{"):
            return json.loads(line)
    raise SystemExit(f"{worker.args} died")


def time_job(rounds: int) -> dict:
    """The main job on digits as a whole command: with nothing cached, and again."""
    found: dict = {}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            ours = ["-m", "research.main", "--config=configs/bn_adam.py"]
            for kind in ("ours cold", "ours warm"):
                time_command([*ours, f"--workdir={folder}/{kind}"], folder, found, kind)
            time_command(["-m", "benchmarks.job_pytorch"], folder, found, "pytorch")
        print(f"job {number + 1}/{rounds}", file=sys.stderr)
    return found


def time_command(arguments: list[str], home: str, found: dict, kind: str) -> None:
    environment = {"XDG_CACHE_HOME": f"{home}/cache", "TFDS_DATA_DIR": f"{home}/data"}
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env={**os.environ, **environment},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = None
    for line in process.stderr:
        if first is None and "step 1" in line:
            first = time.perf_counter() - started
    if process.wait():
        raise SystemExit(f"{process.args} failed")
    entry = found.setdefault(kind, {"seconds": [], "first_step": []})
    entry["seconds"].append(time.perf_counter() - started)
    entry["first_step"].append(first)


def write_table(results: dict) -> None:
    """Puts the tables between the markers of README.md."""
    parts = []
    for machine, found in results.items():
        parts.append(f"### {machine}\n")
        parts.append("| Work | Contender | Seconds | Time of PyTorch | Peak memory |")
        parts.append("|---|---|---|---|---|")
        for name, workload in WORKLOADS.items():
            for contender, entry in found.get(name, {}).items():
                ratios = [
                    a / b
                    for a, b in zip(
                        entry["seconds"], found[name]["pytorch"]["seconds"], strict=True
                    )
                ]
                parts.append(
                    f"| {workload.title} | {contender} | {spread(entry['seconds'])} | "
                    f"{spread(ratios)} | {entry['peak_mb']:,.0f} MB |"
                )
        for kind, entry in found.get(JOB, {}).items():
            for until, key in (("exit", "seconds"), ("first step", "first_step")):
                title = f"(d) main job on digits, command to {until}"
                parts.append(f"| {title} | {kind} | {spread(entry[key])} | | |")
        parts.append("")
    path = FOLDER / "README.md"
    text = path.read_text()
    marked = "<!-- table -->\n" + "\n".join(parts) + "<!-- end -->"
    path.write_text(re.sub(r"<!-- table -->.*<!-- end -->", lambda _: marked, text, flags=re.S))


def spread(values: list[float]) -> str:
    """The median, and the extremes of all rounds."""
    return f"{statistics.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def quartiles(values: Sequence[float]) -> str:
    """The median and the quartiles; each is one of the values, so infinite ones do no harm."""
    ordered = sorted(values)
    low, middle, high = (ordered[round(share * (len(ordered) - 1))] for share in (0.25, 0.5, 0.75))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


def hardware() -> str:
    """The processor's name and the number of cores, and the accelerator where there is one."""
    import jax

    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        match = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
        name = match[1] if match else name
    device = jax.devices()[0]
    extra = "" if device.platform == "cpu" else f", {device.device_kind}"
    return f"{name}, {len(os.sched_getaffinity(0))} cores{extra}; jax {jax.__version__}"


if __name__ == "__main__":
    main()
