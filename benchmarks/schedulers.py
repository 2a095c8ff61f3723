"""Schedulers beside training every trial to its end: python -m benchmarks.schedulers

What is counted is epochs, of all lanes, thrown away ones among them, until a trial within 1 % of
the best is found. Exactly:

- A seed gives the proposals, the same for all schedulers (`random` asks nobody), and the seed that
  all of its trials are trained from.
- The best is the highest accuracy on validation that any of those proposals has at the end of its
  whole training: `none` trains all of them, so it is read off there. Within 1 % is an accuracy of
  at least that minus .01.
- Found it is when a trial of such an accuracy comes to the end of its whole training. One that is
  as good on its way there does not count yet, under any scheduler; a search that stopped all such
  trials has found none.
- All segments of all lanes count that were trained until then, those of the same turn too.

Trials are of an MLP on digits, eight lanes side by side, by `Study` in one `Population`; what
happened is read from the ledger.
"""

import argparse
import math
import tempfile
import time
from pathlib import Path

from ml_collections import ConfigDict

from benchmarks.run import hardware, quartiles
from research.config import default_config
from research.platform import enable_compilation_cache
from research.tuning import ledger_lines
from research.tuning.config import default_search
from research.tuning.ledger import Ledger
from research.tuning.methods import check_search
from research.tuning.population import Population
from research.tuning.spaces import Space, linear, log
from research.tuning.study import Study
from research.tuning.trials import FINISHED

SCHEDULERS = ("none", "asha", "successive_halving", "hyperband", "median_rule")
SLOTS, NEAR = 8, 0.01
SPACES = {
    "good trials are common": (
        log("optimizer.learning_rate", 1e-5, 1.0),
        log("optimizer.weight_decay", 1e-5, 10.0),
        linear("model.dropout_rate", 0.0, 0.9),
        linear("loss.label_smoothing", 0.0, 0.5),
    ),
    "good trials are rare": (
        log("optimizer.learning_rate", 1e-6, 10.0),
        log("optimizer.weight_decay", 1e-5, 1e2),
        linear("model.dropout_rate", 0.0, 0.95),
        linear("loss.label_smoothing", 0.0, 0.9),
        log("model.initializer_scale", 1e-2, 1e2),
    ),
}


def config_of(name: str, seed: int, scheduler: str):
    """81 trials of 27 epochs: rungs of all schedulers that have some are after 1, 3 and 9."""
    config = default_config()
    config.data.validation, config.batch_size, config.duration = 0.3, 64, "27 epochs"
    config.model.hidden = (64,)
    config.search = search = default_search()
    search.space = SPACES[name]
    if "model.initializer_scale" in {axis[1] for axis in search.space}:
        config.model.normalization = "none"  # which would undo it
    search.trials, search.segments, search.objective = 81, 27, "validation_accuracy"
    search.seed, search.scheduler = seed, scheduler
    return config


class FromSeed:
    """A population that trains all of its trials from a seed that is not its config's."""

    def __init__(self, population: Population, seed: int):
        self._population, self._seed = population, seed

    def start(self, slot: int, values: dict, segments: int) -> None:
        self._population.start(slot, {**values, "seed": self._seed}, segments)

    def __getattr__(self, name: str):
        return getattr(self._population, name)


def searched(population: Population, config: ConfigDict) -> list[tuple[float, float]]:
    """(epochs so far, accuracy) at the end of each trial; of those not whole it is -inf."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.jsonl"
        with Ledger(path) as lines:
            lines.begin(config)
            facts = {
                "slots": SLOTS,
                "chunk": population.chunk,
                "parameters": population.parameters(),
            }
            found = FromSeed(population, config.search.seed), facts
            Study(config, Space.from_config(config), lines, lambda *_: found).run()
        events = ledger_lines.read(path)
    epochs, come, accuracy, ends = 0.0, {}, {}, []
    for event in events:
        trial = event.get("trial")
        if event["event"] == "report":
            epochs += event["epoch"] - come.get(trial, 0.0)
            come[trial], accuracy[trial] = event["epoch"], event["validation_accuracy"]
        elif event["event"] == "end":
            whole = event["why"] == FINISHED
            ends.append((epochs, accuracy[trial] if whole else -math.inf))
    return ends


def summarized(ends: list[tuple[float, float]], best: float) -> dict[str, float]:
    """Epochs until one is near the best (inf: never) and in all, and what its best one lacks."""
    near = [epochs for epochs, accuracy in ends if accuracy >= best - NEAR - 1e-9]
    return {
        "until": min(near, default=math.inf),
        "epochs": ends[-1][0],
        "lacks": best - max(accuracy for _, accuracy in ends),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=11)
    seeds = parser.parse_args().seeds
    enable_compilation_cache()
    print(hardware())
    for name in SPACES:
        started = time.perf_counter()
        found, near = measured(name, seeds)
        print(
            f"\n{name}: of 81 trials {quartiles(near)} are near the best; {seeds} seeds, "
            f"{time.perf_counter() - started:.0f} s\n\n"
            "| Scheduler | Epochs until found | As a share of those of `none` | Found | "
            "Epochs in all | Accuracy its best lacks |\n|---|---|---|---|---|---|"
        )
        for scheduler, of in found.items():
            each = {key: [one[key] for one in of] for key in of[0]}
            shares = [a["until"] / b["until"] for a, b in zip(of, found["none"], strict=True)]
            reached = sum(map(math.isfinite, each["until"]))
            print(f"| {scheduler} | {quartiles(each['until'])} | {quartiles(shares)} | {reached} of"
                  f" {seeds} | {quartiles(each['epochs'])} | {quartiles(each['lacks'])} |",
                  flush=True)  # fmt: skip


def measured(name: str, seeds: int) -> tuple[dict[str, list[dict]], list[int]]:
    """What each scheduler comes to by seed, and how many trials are near the best."""
    config = config_of(name, 0, "none")
    space = check_search(config)
    program = space.program(config, space.decode([0.5] * space.size))
    population = Population(program, SLOTS, segments=config.search.segments, mode="sequential")
    population.compile()
    found: dict[str, list[dict]] = {scheduler: [] for scheduler in SCHEDULERS}
    near = []
    for seed in range(seeds):
        ends = {each: searched(population, config_of(name, seed, each)) for each in SCHEDULERS}
        accuracies = [accuracy for _, accuracy in ends["none"]]
        near.append(sum(accuracy >= max(accuracies) - NEAR - 1e-9 for accuracy in accuracies))
        for scheduler, of in ends.items():
            found[scheduler].append(summarized(of, max(accuracies)))
    return found, near


if __name__ == "__main__":
    main()
