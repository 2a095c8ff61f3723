"""What a population of trials is worth: python -m benchmarks.search [WORKLOAD...]

A random search over the learning rate and Adam's beta1, on digits, batch 64, each trial judged on
validation after every tenth of its steps. Beside the population: Optuna (in memory, random
sampler) that drives a PyTorch loop, eager, one trial after the other; and our own compiled step,
one trial after the other, as a loop over `research.main`'s program would. Each lives in a process
of its own; they take turns, so that a noisy machine is noisy for all.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from typing import NamedTuple

from benchmarks.run import answer, hardware, spread

SEGMENTS, BATCH = 10, 64


class Workload(NamedTuple):
    """What a trial trains, and how many trials a round has."""

    changes: dict
    steps: int
    trials: dict[str, int]


WORKLOADS = {
    "mlp": Workload(
        {"model.hidden": (64,)}, 300, {"population": 64, "one_by_one": 8, "optuna_pytorch": 4}
    ),
    "cnn": Workload(
        {"model.name": "cnn", "model.channels": (16, 32)},
        60,
        {"population": 8, "one_by_one": 4, "optuna_pytorch": 4},
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--mode", default="auto", help="of the population's lanes")
    arguments = parser.parse_args()
    print(f"{hardware()}\n")
    print(
        "| Trials of | By | ms a trial-step | Trial-steps a second beside Optuna's | Ready after |"
    )
    print("|---|---|---|---|---|")
    for name in arguments.workloads:
        report(name, measured(name, arguments.mode, arguments.rounds))


def measured(workload: str, mode: str, rounds: int) -> dict[str, dict]:
    """{contender: {'prepare': seconds, 'size': lanes together, 'seconds': [of a trial-step]}}"""
    workers, found = {}, {}
    for contender in WORKLOADS[workload].trials:
        workers[contender] = subprocess.Popen(
            [sys.executable, "-c", f"from benchmarks import search; search.work({contender!r}, "
             f"{workload!r}, {mode!r})"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        found[contender] = {**answer(workers[contender]), "seconds": []}
    for _ in range(rounds):
        for contender, worker in workers.items():
            worker.stdin.write("\n")
            worker.stdin.flush()
            found[contender]["seconds"].append(answer(worker)["seconds"])
    for worker in workers.values():
        worker.communicate()
    return found


def report(workload: str, found: dict) -> None:
    theirs = found["optuna_pytorch"]["seconds"]
    for entry in found.values():
        each = entry["seconds"]
        times = [b / a for a, b in zip(each, theirs, strict=True)]
        print(f"| {workload} | {entry['name']} | {spread([1000 * s for s in each])} | "
              f"{spread(times)} | {entry['prepare']:.1f} s |", flush=True)  # fmt: skip
    ours, alone = found["population"], found["one_by_one"]["seconds"]
    beside = [b / a for a, b in zip(ours["seconds"], alone, strict=True)]
    trials = WORKLOADS[workload].trials["population"]
    steps = trials * WORKLOADS[workload].steps
    whole = [steps * b / (ours["prepare"] + steps * a)
             for a, b in zip(ours["seconds"], theirs, strict=True)]  # fmt: skip
    fixed = ours["fixed"] - SEGMENTS * statistics.median(ours["seconds"])
    print(
        f"\n{workload}: population beside its own step one by one {spread(beside)}; beside Optuna "
        f"with compilation, over {trials} trials, {spread(whole)}; "
        f"a trial's fixed cost {1000 * fixed:.2g} ms\n",
        flush=True,
    )


def work(contender: str, workload: str, mode: str) -> None:
    """In a process of its own: prepares, then trains a round for each line that it reads."""
    count, steps = WORKLOADS[workload].trials[contender], WORKLOADS[workload].steps
    said, trials = globals()[f"prepare_{contender}"](workload, mode)
    print(json.dumps(said), flush=True)
    for _ in sys.stdin:
        started = time.perf_counter()
        trials(count)
        seconds = (time.perf_counter() - started) / (count * steps)
        print(json.dumps({"seconds": seconds}), flush=True)


def config_of(workload: str, steps: int = 0):
    from research.config import default_config

    config = default_config()
    config.batch_size, config.duration = BATCH, f"{steps or WORKLOADS[workload].steps} steps"
    config.update_from_flattened_dict(WORKLOADS[workload].changes)
    return config


def draw(random) -> dict:
    return {
        "optimizer.learning_rate": float(10 ** random.uniform(-4, -1)),
        "optimizer.beta1": float(random.uniform(0.5, 0.99)),
    }


def prepare_population(workload: str, mode: str):
    import numpy as np

    from research.tuning.population import Population

    random, slots = np.random.default_rng(0), WORKLOADS[workload].trials["population"]

    def ready(steps):
        population = Population(config_of(workload, steps), slots, segments=SEGMENTS, mode=mode)
        seconds = population.compile()

        def trials(count):
            for slot in range(count):
                population.start(slot, draw(random), SEGMENTS)
            for _ in range(SEGMENTS):
                population.advance(range(count))

        trials(slots)  # warm
        return seconds, population, trials

    _, _, short = ready(SEGMENTS)  # one step a segment: what is left is the fixed cost
    started = time.perf_counter()
    short(slots)
    fixed = (time.perf_counter() - started) / slots
    seconds, population, trials = ready(0)
    name = f"population, chunks of {population.chunk}"
    return {"name": name, "prepare": seconds, "fixed": fixed}, trials


def prepare_one_by_one(workload: str, mode: str):
    import jax
    import numpy as np

    from research.training import advance, evaluation, hyperparameters, setup
    from research.training.state import init_state

    random = np.random.default_rng(0)
    config = config_of(workload)
    run = setup.from_config(config)
    numbers = hyperparameters.from_config(config, len(run.train))
    started = time.perf_counter()
    init = jax.jit(
        lambda numbers: init_state(config, numbers, run.statistics, run.probe(), run.task.outputs)
    )
    state = init(numbers)
    program = advance.over_arrays(run, state)
    evaluate = evaluation.compiled_evaluator(config, run.task, run.validation, state)
    seconds = time.perf_counter() - started

    def trials(count):
        for _ in range(count):
            values = {key.partition(".")[2]: np.float32(of) for key, of in draw(random).items()}
            state = init({**numbers, "optimizer": {**numbers["optimizer"], **values}})
            for _ in range(SEGMENTS):
                state, metrics = program(state, run.plan().total_steps // SEGMENTS)
                jax.device_get((metrics, evaluate(state)))

    trials(1)
    return {"name": "our compiled step, one by one", "prepare": seconds}, trials


def prepare_optuna_pytorch(workload: str, mode: str):
    import optuna
    import torch
    import torch.nn.functional as F
    from torch import nn

    from research.training import setup

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    run, steps = setup.from_config(config_of(workload)), WORKLOADS[workload].steps
    scale, shift = (float(run.statistics[name].ravel()[0]) for name in ("scale", "shift"))

    def tensors(split):
        x = (torch.from_numpy(split.inputs).float() - shift) * scale  # once, before all training
        return x.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last), (
            torch.from_numpy(split.labels).long()
        )

    (x, y), (held_out, labels) = tensors(run.train), tensors(run.validation)

    def build():
        if workload == "mlp":
            return nn.Sequential(
                nn.Flatten(), nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), nn.ReLU(),
                nn.Linear(64, 10),
            )  # fmt: skip
        layers, inputs = [], 1
        for outputs in WORKLOADS[workload].changes["model.channels"]:
            layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
            layers += [nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2)]
            inputs = outputs
        model = nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * 4, 10))
        return model.to(memory_format=torch.channels_last)

    def objective(trial):
        model = build()
        optimizer = torch.optim.Adam(
            model.parameters(),
            lr=trial.suggest_float("learning_rate", 1e-4, 1e-1, log=True),
            betas=(trial.suggest_float("beta1", 0.5, 0.99), 0.999),
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        order, place = torch.randperm(len(y)), 0
        for step in range(steps):
            if place + BATCH > len(y):
                order, place = torch.randperm(len(y)), 0
            index = order[place : place + BATCH]
            place += BATCH
            loss = F.cross_entropy(model(x[index]), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            if (step + 1) % (steps // SEGMENTS) == 0:
                model.eval()
                with torch.no_grad():
                    judged = F.cross_entropy(model(held_out), labels)
                trial.report(judged.item(), step)
                model.train()
        return judged.item()

    def trials(count):
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        study.optimize(objective, n_trials=count)

    seconds = {}
    for threads in range(1, len(os.sched_getaffinity(0)) + 1):  # more are not always faster
        torch.set_num_threads(threads)
        trials(1)
        started = time.perf_counter()
        trials(1)
        seconds[threads] = time.perf_counter() - started
    threads = min(seconds, key=seconds.get)
    torch.set_num_threads(threads)
    return {"name": f"Optuna and PyTorch ({threads} threads), one by one", "prepare": 0.0}, trials


if __name__ == "__main__":
    os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")  # compilation is measured
    main()
