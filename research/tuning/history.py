"""What samplers take from the trials so far."""

import math
import warnings
from collections.abc import Sequence

import numpy as np

from research.tuning.trials import DIVERGED, RUNNING, Trial


def outcome(trial: Trial) -> float:
    """Return the score it ended with; NaN where it diverged, or still runs."""
    return math.nan if trial.end in (RUNNING, DIVERGED) else trial.score


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the least outcome of those that came furthest; the earliest of equals, or None.

    The last score of a trial that was stopped is of a shorter training, and losses may rise later.
    """
    ended = [trial for trial in trials if math.isfinite(outcome(trial))]
    return min(ended, key=lambda trial: (-trial.piece, outcome(trial)), default=None)


def generator(seed: int, number: int) -> np.random.Generator:
    """Return the randomness of one trial: of nothing but the search's seed and its number."""
    return np.random.default_rng((seed, number))


def seed_of(seed: int, number: int) -> int:
    """Return the same for libraries that take a whole number of 32 bits."""
    return int(generator(seed, number).integers(2**32))


def sobol_points(size: int, seed: int, first: int, count: int) -> np.ndarray:
    """Points (count, size) of a scrambled Sobol sequence (Sobol, 1967; Owen, 1998)."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(size, rng=seed)
    if first:  # scipy cannot go forward by 0
        sequence.fast_forward(first)
    with warnings.catch_warnings():  # that counts other than powers of 2 are less even
        warnings.simplefilter("ignore", UserWarning)
        return sequence.random(count)
