"""One contender in a process of its own: prepares, then trains a round for each line it reads."""

import importlib
import json
import resource
import sys
import time


def main(contender: str, workload_name: str) -> None:
    from benchmarks.workloads import WORKLOADS

    started = time.perf_counter()
    prepare = importlib.import_module(f"benchmarks.contender_{contender}").prepare
    train = prepare(WORKLOADS[workload_name])
    loss = train()  # compiles, or warms up
    answer(seconds=time.perf_counter() - started, loss=loss)
    for _ in sys.stdin:
        started = time.perf_counter()
        loss = train()
        answer(seconds=time.perf_counter() - started, loss=loss)


def answer(**values) -> None:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({**values, "peak_mb": peak}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
