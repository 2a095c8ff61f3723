"""Random search beside grids where two of six axes matter: python -m benchmarks.random_against_grid

Each trial trains an MLP on digits, in a lane of one `Population`; its score is the loss on
validation at the end. A repetition is a search of 64 trials by each method, from a training seed of
its own that all methods share:

- `random` and `sobol`: the samplers of the project.
- `2^6 grid`: two values of each of the six numbers, all combinations: the only full factorial of
  six axes that 64 trials pay for.
- `3^6 grid`: 64 of the 729 combinations of three values: a search that ends early.
- `8^2 grid`: eight values of each of the two numbers that matter, the others in their middle: for
  those who knew before. A bound, not a rival.

Grids are as good as they can be without that knowledge. Their values do not stand at the ends of
the axes, where one would not train, but in the middle of equal cells, and each repetition moves
them all within their cells, by an amount of its own for each axis: so any single point of a grid is
distributed as a random one is, and what differs is how points stand to each other. Their order is
shuffled, so that the best of the first n is that of any n.

Which axes matter is told by the random trials themselves: the share of the variance of the scores'
ranks that the means of equal cells explain, of one axis and of several together; of all trials, and
of the best quarter alone. It is corrected for the number of cells (omega squared): an axis that
does nothing comes out at 0.
"""

import argparse
import dataclasses
import time

import numpy as np

from benchmarks.run import hardware, quartiles
from research.config import default_config
from research.platform import enable_compilation_cache
from research.tuning import samplers
from research.tuning.config import default_search
from research.tuning.methods import check_search
from research.tuning.population import Population
from research.tuning.spaces import Space, linear, log

MATTER = ("optimizer.learning_rate", "optimizer.weight_decay")
TRIALS, SLOTS = 64, 64
COUNTS = tuple(2**power for power in range(7))
METHODS = ("random", "sobol", "2^6 grid", "3^6 grid", "8^2 grid")


def config_of():
    """Ranges that one would search who does not know better."""
    config = default_config()
    config.data.validation, config.batch_size, config.duration = 0.3, 64, "6 epochs"
    config.model.hidden = (64,)
    config.search = default_search()
    config.search.space = (
        log("optimizer.learning_rate", 1e-4, 1.0),
        log("optimizer.weight_decay", 1e-3, 1e2),
        linear("schedule.final", 0.0, 0.1),
        linear("optimizer.beta1", 0.8, 0.95),
        linear("optimizer.beta2", 0.98, 0.999),
        log("optimizer.epsilon", 1e-10, 1e-7),
    )
    return config


def points(method: str, space: Space, seed: int) -> list[dict]:
    """The values of the trials of a search, in their order."""
    if method in ("random", "sobol"):
        proposals = getattr(samplers, method)(space, [], TRIALS, seed)
        return [proposal.values for proposal in proposals]
    random, each = np.random.default_rng(seed), int(method[0])
    box = Space(tuple(_moved(axis, each, random.random()) for axis in space.axes))
    if method == "8^2 grid":
        middle = space.decode([0.5] * space.size)
        box = Space(tuple(axis for axis in box.axes if axis.key in MATTER))
    else:
        middle = {}
    proposals = samplers.grid(box, [], each**box.size, seed, grid_points=each)
    order = random.permutation(len(proposals))[:TRIALS]
    return [{**middle, **proposals[number].values} for number in order]


def _moved(axis, each: int, place: float):
    """The axis from its first to its last grid value: at the same place in each of equal cells."""
    low, high = place / each, (each - 1 + place) / each
    return dataclasses.replace(axis, low=axis.decode(low), high=axis.decode(high))


def trained(population: Population, searches: list[tuple[int, list[dict]]]) -> np.ndarray:
    """Loss and accuracy on validation of (seed, points) pairs: (2, searches, trials)."""
    work = [{**values, "seed": seed} for seed, search in searches for values in search]
    found = []
    for first in range(0, len(work), SLOTS):
        slots = range(len(work[first : first + SLOTS]))
        for slot in slots:
            population.start(slot, work[first + slot], 1)
        reports = population.advance(slots)
        found += [reports[slot] for slot in slots]
    scores = [[*report.validation["loss"], *report.validation["accuracy"]] for report in found]
    loss, accuracy = np.reshape(scores, (len(searches), -1, 2)).transpose(2, 0, 1)
    return np.stack([np.where(np.isfinite(loss), loss, np.inf), accuracy])


def explained(units: np.ndarray, scores: np.ndarray, cells: int) -> float:
    """Share of the variance of ranks that cells of the unit cube explain (omega squared).

    Args:
      units: (n, axes), of those axes that are looked at.
      scores: (n,).
      cells: on each axis.
    """
    ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable").astype(float)
    places = np.minimum((units * cells).astype(int), cells - 1)
    _, cell, sizes = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    means = np.bincount(cell, ranks) / sizes
    total, within = ((ranks - ranks.mean()) ** 2).sum(), ((ranks - means[cell]) ** 2).sum()
    unit = within / (len(ranks) - len(sizes))
    return float((total - within - (len(sizes) - 1) * unit) / (total + unit))


def tell_axes(space: Space, values: list[dict], scores: np.ndarray) -> None:
    """A table of what each axis explains."""
    units = np.array([space.encode(of) for of in values])
    good = np.argsort(scores, kind="stable")[: len(scores) // 4]
    matter = [key in MATTER for key in space.keys]
    others = [not those for those in matter]
    rows = [(f"{axis.key}: {axis.kind}, {axis.range}", [place], 16)
            for place, axis in enumerate(space.axes)]  # fmt: skip
    rows += [("the two that matter", matter, 16), ("the other four", others, 4)]
    print("| Axis | Variance of ranks explained | Among the best quarter |\n|---|---|---|")
    for name, those, cells in rows:
        part = units[:, those]
        shares = explained(part, scores, cells), explained(part[good], scores[good], cells)
        print("| {} | {:.3f} | {:.3f} |".format(name, *shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repetitions", type=int, default=50)
    repetitions = parser.parse_args().repetitions
    enable_compilation_cache()
    started = time.perf_counter()
    config = config_of()
    space = check_search(config)
    program = space.program(config, space.decode([0.5] * space.size))
    population = Population(program, SLOTS, segments=1, mode="sequential")
    population.compile()
    tried = {
        method: [(seed, points(method, space, seed)) for seed in range(repetitions)]
        for method in METHODS
    }
    found = {method: trained(population, searches) for method, searches in tried.items()}
    print(f"{hardware()}; {repetitions} repetitions, {time.perf_counter() - started:.0f} s\n")

    values = [of for _, search in tried["random"] for of in search]
    tell_axes(space, values, found["random"][0].ravel())

    print(f"\n| Method | Values tried of the two | {' | '.join(map(str, COUNTS))} | Accuracy |")
    print("|---" * (len(COUNTS) + 3) + "|")
    best = {method: np.minimum.accumulate(of[0], axis=1) for method, of in found.items()}
    for method, (loss, accuracy) in found.items():
        distinct = [len({of[key] for of in tried[method][0][1]}) for key in MATTER]
        chosen = accuracy[np.arange(repetitions), loss.argmin(1)]
        cells = [quartiles(best[method][:, count - 1]) for count in COUNTS]
        print(f"| {method} | {distinct[0]}, {distinct[1]} | {' | '.join(cells)} | "
              f"{100 * np.median(chosen):.1f} % |")  # fmt: skip
    wins = [(best["random"] < best["2^6 grid"])[:, count - 1].sum() for count in COUNTS]
    print(f"\nrandom below the 2^6 grid, of {repetitions}: {', '.join(map(str, wins))}")


if __name__ == "__main__":
    main()
