"""What safety costs: python -m benchmarks.overheads.

The same steps with and without checkpoints, with and without metrics and digests, in one process
by turns, so that a noisy machine is noisy for all. Printed are the ratios within each round: their
median, and all of them between the quartiles.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import jax

from benchmarks.contender_ours import setup_of
from benchmarks.workloads import WORKLOADS, make_data
from research import platform
from research.reporting.writers import MetricWriter
from research.training import advance, checkpoints, divergence, loop
from research.training.digest import parameters_sha256

EVERY = 100  # steps between checkpoints, and between log points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="mlp128", choices=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    seconds = measured(arguments.workload, arguments.rounds, arguments.steps)
    print(f"{WORKLOADS[arguments.workload].title}; {arguments.steps} steps, "
          f"{arguments.rounds} rounds; plain: {spread(seconds['plain'])} s")  # fmt: skip
    for name, found in seconds.items():
        if name != "plain":
            ratios = [100 * (a / b - 1) for a, b in zip(found, seconds["plain"], strict=True)]
            print(f"{name}: {spread(ratios)} % of the time of plain steps")


def measured(name: str, rounds: int, steps: int) -> dict[str, list[float]]:
    """{what is on: seconds of each round}."""
    platform.enable_compilation_cache()
    workload = WORKLOADS[name]
    run = setup_of(workload.build_config(), *make_data(workload))
    state = run.init()
    advance_steps = advance.over_arrays(run, state)
    healthy = jax.jit(divergence.healthy).lower(state).compile()
    seconds: dict[str, list[float]] = {}
    kinds = {
        "plain": (False, False, False),
        "asynchronous checkpoints": (True, False, False),
        "metrics and the finite check": (False, True, False),
        "digest of the parameters": (False, False, True),
    }
    for number in range(-1, rounds):  # the first is not counted
        order = list(kinds)
        for kind in order[number % len(order) :] + order[: number % len(order)]:
            state = run.init()
            found = one_round(run, state, steps, advance_steps, healthy, *kinds[kind])
            if number >= 0:
                seconds.setdefault(kind, []).append(found)
    return {kind: seconds[kind] for kind in kinds}


def one_round(run, state, steps, advance_steps, healthy, saves, writes, digests) -> float:
    """The seconds of some steps by the trainer's own loop."""
    plan = loop.Plan(steps, EVERY, EVERY, EVERY)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        with checkpoints.Checkpoints(workdir) as kept, MetricWriter(workdir, 0) as writer:

            def save(state, record):
                if saves:
                    kept.save(run.config, state, {})
                if digests:
                    parameters_sha256(state)

            started = time.perf_counter()
            loop.fit(
                state, plan, advance=advance_steps,
                healthy=healthy if writes else lambda _: True,
                evaluate=None, save=save,
                write=writer.write if writes else lambda _: None,
                progress=lambda *_: None, interrupted=lambda: False, pace=loop.Pace(0),
            )  # fmt: skip
            kept._wait()
            return time.perf_counter() - started


def spread(values: list[float]) -> str:
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
