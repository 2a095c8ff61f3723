"""What safety costs: python -m benchmarks.overheads.

The same steps with and without checkpoints, with and without metrics and digests, in one process
by turns, so that a noisy machine is noisy for all. Printed are the ratios within each round, of the
time and of the time of all processor cores: their median, and the quartiles. Where the processor is
the device its cores are never idle, and their time, which a neighbour disturbs less, is the cost;
where it is not, the time is.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.contender_ours import setup_of
from benchmarks.workloads import WORKLOADS, make_data
from research import platform
from research.reporting.records import MetricWriter, named_writers
from research.training import advance, checkpoints, divergence, early_stopping, loop
from research.training.copies import copied
from research.training.digest import parameters_sha256
from research.training.dispatch import Pace
from research.training.plan import Plan
from research.training.program import Program

EVERY = 100  # steps between checkpoints, and between log points


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workload", default="mlp128", choices=WORKLOADS)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    found = measured(arguments.workload, arguments.rounds, arguments.steps)
    plain = found.pop("plain")
    print(f"{WORKLOADS[arguments.workload].title}: {arguments.steps} steps, "
          f"{arguments.rounds} rounds on {jax.devices()[0].device_kind}")  # fmt: skip
    print(f"plain: {spread(plain[:, 0])} s, of all cores {spread(plain[:, 1])} s")
    for name, seconds in found.items():
        more = 100 * (seconds / plain - 1)
        print(f"{name}: {spread(more[:, 0])} % more, of all cores {spread(more[:, 1])} %")


def measured(name: str, rounds: int, steps: int) -> dict[str, np.ndarray]:
    """{what is on: (rounds, 2) seconds, on the clock and of all cores}."""
    platform.enable_compilation_cache()
    workload = WORKLOADS[name]
    run = setup_of(workload.build_config(), *make_data(workload))
    first = run.init()
    again = jax.jit(lambda tree: jax.tree.map(jnp.copy, tree))  # each round's steps take one over
    advance_steps = advance.over_arrays(run, first)
    healthy = jax.jit(divergence.healthy).lower(first).compile()
    seconds: dict[str, list[tuple[float, float]]] = {}
    kinds = {
        "plain": (False, False, False),
        "asynchronous checkpoints": (True, False, False),
        "metrics and the finite check": (False, True, False),
        "digest of the parameters": (False, False, True),
    }
    rng = np.random.default_rng(0)
    for number in range(-1, rounds):  # the first is not counted
        for kind in rng.permutation(list(kinds)):  # what one leaves behind, the next one pays for
            found = one_round(run, again(first), steps, advance_steps, healthy, *kinds[kind])
            if number >= 0:
                seconds.setdefault(kind, []).append(found)
    return {kind: np.array(seconds[kind]) for kind in kinds}


def one_round(run, state, steps, advance_steps, healthy, saves, writes, digests):
    """Trains some steps by the trainer's own loop: seconds on the clock, and of all cores."""
    plan = Plan(steps, EVERY, EVERY, EVERY)
    objective = early_stopping.objective(run.config, run.task)
    with tempfile.TemporaryDirectory() as folder:
        workdir = Path(folder)
        metrics = MetricWriter(workdir, 0, run.config, named_writers(run.config))
        with checkpoints.Checkpoints(workdir) as kept, metrics as writer:

            class Host(loop.Host):
                def copy(self, state):
                    if digests:
                        parameters_sha256(state)
                    return copied(state) if saves else None

                def save(self, step, copies, records, window):
                    kept.save(step, run.config, copies, {}, objective)

                def write(self, record):
                    if writes:
                        writer.write(record)

            program = Program(advance_steps, healthy if writes else lambda _: True)
            started, worked = time.perf_counter(), time.process_time()
            loop.fit(state, plan, run.task, program, Host(), Pace(0))
            kept.wait()
            return time.perf_counter() - started, time.process_time() - worked


def spread(values: np.ndarray) -> str:
    low, middle, high = np.quantile(values, (0.25, 0.5, 0.75))
    return f"{middle:.3g} ({low:.3g} to {high:.3g})"


if __name__ == "__main__":
    main()
