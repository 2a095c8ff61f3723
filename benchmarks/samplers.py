"""Samplers on functions whose least value is known: python -m benchmarks.samplers [--seeds=11]
[--methods tpe bayes].

Regret is what the best trial is above the least value; under noise, what the *true* value of the
trial that would be recommended is above it: for `bayes` that of the least posterior mean, for the
others that of the least score. Batches are of 8 trials. Then: how long an ask of 64 takes.
"""

import argparse
import time

import numpy as np

from research.platform import enable_compilation_cache
from research.tuning import methods
from research.tuning.axes import Axis
from research.tuning.config import default_search
from research.tuning.spaces import Space
from research.tuning.trials import FINISHED, Proposal, Trial, best

_ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
_A = np.array(
    [
        [10, 3, 17, 3.5, 1.7, 8],
        [0.05, 10, 17, 0.1, 8, 14],
        [3, 3.5, 1.7, 10, 17, 8],
        [17, 8, 0.05, 10, 0.1, 14],
    ]
)
_P = 1e-4 * np.array(
    [
        [1312, 1696, 5569, 124, 8283, 5886],
        [2329, 4135, 8307, 3736, 1004, 9991],
        [2348, 1451, 3522, 2883, 3047, 6650],
        [4047, 8828, 8732, 5743, 1091, 381],
    ]
)


def hartmann(x: np.ndarray) -> float:
    """Hartmann's function of 6 numbers above its least value; local optima at 0.12 and more."""
    return 3.322368011415515 - float(_ALPHA @ np.exp(-(_A * (x - _P) ** 2).sum(1)))


def branin(x: np.ndarray) -> float:
    """Branin's function of 2 numbers above its least value, which it has at three places."""
    a, b = 15 * x[0] - 5, 15 * x[1]
    valley = (b - 5.1 / (4 * np.pi**2) * a**2 + 5 / np.pi * a - 6) ** 2
    return float(valley + 10 * (1 - 1 / (8 * np.pi)) * np.cos(a) + 10 - 0.39788735772973816)


# What is sought, in how many numbers, trials and with what deviation of the noise.
TASKS = {
    "Branin, 64 trials": (branin, 2, 64, 0.0),
    "Hartmann-6, 96 trials": (hartmann, 6, 96, 0.0),
    "Hartmann-6 with noise of 0.1, 96 trials": (hartmann, 6, 96, 0.1),
}
METHODS = {  # what of `config.search` makes each
    **{name: {"method": name} for name in ("random", "sobol", "tpe", "cmaes", "bayes")},
    "bayes_upper_confidence": {"method": "bayes", "acquisition": "upper_confidence_bound"},
}
BATCH = 8


def space_of(size: int) -> Space:
    return Space(tuple(Axis("linear", f"x{index}", 0.0, 1.0) for index in range(size)))


def sampler_of(method: str):
    search = default_search()
    search.update(METHODS[method])
    return methods.from_config(search)


def regret(method: str, task: str, seed: int) -> float:
    function, size, total, noise = TASKS[task]
    propose, space, random = sampler_of(method), space_of(size), np.random.default_rng(seed)
    trials: list[Trial] = []
    while len(trials) < total:
        for proposal in propose(space, trials, BATCH, seed):
            score = function(space.encode(proposal.values)) + noise * random.standard_normal()
            trials.append(
                Trial(len(trials), proposal, 1, [{"segment": 1, "score": score}], FINISHED)
            )
    recommended = best(trials)
    if noise and METHODS[method]["method"] == "bayes":
        from research.tuning.bayesian import Surrogate

        recommended = Surrogate(space, trials).best()
    return function(space.encode(recommended.values))


def seconds_of_an_ask(method: str) -> float:
    """64 proposals at 300 trials of 6 numbers, once compiled."""
    space, propose = space_of(6), sampler_of(method)
    units = np.random.default_rng(0).random((300, 6))
    trials = [
        Trial(
            n, Proposal(space.decode(unit)), 1, [{"segment": 1, "score": hartmann(unit)}], FINISHED
        )
        for n, unit in enumerate(units)
    ]
    times = []
    for _ in range(4):
        start = time.perf_counter()
        propose(space, trials, 64, 0)
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=11)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    arguments = parser.parse_args()
    enable_compilation_cache()
    print("| Method | " + " | ".join(TASKS) + " | Seconds of ask(64) |")
    print("|---" * (len(TASKS) + 2) + "|")
    for method in arguments.methods:
        cells = [method]
        for task in TASKS:
            regrets = [regret(method, task, seed) for seed in range(arguments.seeds)]
            cells.append("{1:.2g} ({0:.2g} to {2:.2g})".format(*np.quantile(regrets, [0, 0.5, 1])))
        cells.append(f"{seconds_of_an_ask(method):.3g}")
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
