"""What to try next: the names `config.search.method` may use.

A sampler is a pure function of the trials so far, in order of their numbers, running ones among
them: the same history gives the same proposals, so a search that was interrupted goes on as if it
had not been. It may return fewer than asked for, where it waits for scores or has no more.
"""

from collections.abc import Sequence

import numpy as np

from research.tuning.spaces import Space
from research.tuning.trials import Proposal, Trial


def random(space: Space, trials: Sequence[Trial], count: int, seed: int) -> list[Proposal]:
    """Independent, uniform on the scale of each axis (Bergstra and Bengio, 2012)."""
    numbers = range(len(trials), len(trials) + count)
    draws = [np.random.default_rng((seed, number)).random(space.size) for number in numbers]
    return [Proposal(space.decode(draw)) for draw in draws]
