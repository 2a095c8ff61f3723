"""CMA-ES of the package `cmaes`, as a function of our trials."""

import math
from collections.abc import Sequence

import numpy as np
from cmaes import CMA

from research.tuning.history import generator, outcome, seed_of
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Trial

_WIDTH = 0.3  # standard deviation of the first generation, in the unit cube
_WORST = 1e30  # finite, for `cmaes` subtracts scores


def propose(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[np.ndarray]:
    """Return the next points of the unit cube; each is drawn by its number.

    Optuna's own CMA-ES keeps its state pickled in its trials; here it is told all of them anew. A
    choice is a coordinate cut into equal shares; an inactive axis tells nothing: it stands at the
    mean. What has no score is worse than all of its generation.
    """
    size = max(space.size, 2)  # of which `cmaes` makes no less
    restarts = 0
    search = CMA(np.full(size, 0.5), _WIDTH, bounds=np.tile([0.0, 1.0], (size, 1)))
    ended = [trial for trial in trials if trial.end != RUNNING]
    whole = len(ended) // search.population_size * search.population_size
    for first in range(0, whole, search.population_size):
        generation = []
        for trial in ended[first : first + search.population_size]:
            point, known = search.mean.copy(), space.active(trial.values)
            point[: space.size][known] = space.encode(trial.values)[known]
            value = outcome(trial)
            generation.append((point, value if math.isfinite(value) else _WORST))
        search.tell(generation)
        if search.should_stop():
            restarts += 1
            mean = generator(seed, -restarts % 2**32).random(size)
            search = CMA(mean, _WIDTH, bounds=np.tile([0.0, 1.0], (size, 1)))
    points = []
    for number in range(len(trials), len(trials) + count):
        search.reseed_rng(seed_of(seed, number))
        points.append(search.ask()[: space.size])
    return points
