"""Bayesian optimisation: from trials to a Gaussian process over their scores, and to the next."""

import contextlib
import functools
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.tree_util import Partial
from threadpoolctl import threadpool_limits

from research.tuning import batches, gaussian_process, posterior
from research.tuning.history import generator, outcome, sobol_points
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Trial

_SAMPLES = 16  # of fantasies
_GROUPS, _CANDIDATES = 4, 256  # groups of candidates, and how many in each
_REACH = (0.1, 0.01)  # deviations of candidates near good trials, in the unit cube


def propose(
    space: Space,
    trials: Sequence[Trial],
    count: int,
    seed: int,
    acquisition: functools.partial,
) -> np.ndarray:
    """Return the next points of the unit cube, (count, size): a Sobol sequence first, then a batch.

    `acquisition` is of research/tuning/acquisition.py, bound to its numbers.
    """
    beginning = count
    if any(math.isfinite(outcome(trial)) for trial in trials):
        beginning = min(max(8, 2 * space.size) - len(trials), count)
    if beginning == count:
        return sobol_points(space.size, seed, len(trials), count)
    first = np.zeros((0, space.size))
    if beginning > 0:
        first = sobol_points(space.size, seed, len(trials), beginning)
    random = generator(seed, len(trials))
    found = Surrogate(space, trials).batch(first, count - len(first), random, acquisition)
    return np.concatenate([first, found])


class Surrogate:
    """A Gaussian process over the scores of a search.

    Args:
      space: that was searched.
      trials: at least one with a finite score.
    """

    def __init__(self, space: Space, trials: Sequence[Trial]):
        self._columns = _Columns(space)
        self._ended = [trial for trial in trials if trial.end != RUNNING]
        self._running = _units(space, [trial for trial in trials if trial.end == RUNNING])
        self._units = _units(space, self._ended)
        self._rows, _ = self._columns.encode(self._units)
        self._scores = np.array([outcome(trial) for trial in self._ended])
        self._y = observations(self._scores)
        with _alone():
            self._parameters = gaussian_process.fit(self._rows, self._y, self._columns.inputs)

    def batch(
        self,
        first: np.ndarray,
        count: int,
        random: np.random.Generator,
        acquisition: functools.partial,
    ) -> np.ndarray:
        """Points (count, size) to try beside the running ones and the `first` (p, size)."""
        from scipy.special import ndtri

        pending, _ = self._columns.encode(np.concatenate([self._running, first]))
        units = _candidates(self._columns.space, self._units[np.argsort(self._y)[:5]], random)
        groups, free = (
            part.reshape(_GROUPS, _CANDIDATES, -1) for part in self._columns.encode(units)
        )
        quantiles = ndtri((np.arange(_SAMPLES) + 0.5) / _SAMPLES)
        draws = random.permuted(np.tile(quantiles, (len(pending) + count, 1)), axis=1)
        # Numbers go into a program as arguments: it is not compiled anew for each partial.
        acquisition = Partial(acquisition.func, **acquisition.keywords)
        with _alone():
            given = self._posterior(_SAMPLES, len(draws))
            place = len(self._rows)
            rows = batches.batch(
                acquisition, given, place, pending, groups, free, draws, self._columns.inputs
            )
        return self._columns.decode(rows)

    def predict(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation of points (m, size), as `observations` scales scores."""
        rows, _ = self._columns.encode(units)
        with _alone():
            mean, variance = posterior.predicted(self._posterior(1, 0), rows, self._columns.inputs)
            return np.asarray(mean)[0], np.sqrt(variance)

    def score(self, y: np.ndarray) -> np.ndarray:
        """From the scale of `observations` back to scores, between those that were seen."""
        seen = np.argsort(self._y, kind="stable")
        seen = seen[np.isfinite(self._scores[seen])]
        return np.interp(y, self._y[seen], self._scores[seen])

    def best(self) -> Trial:
        """Return the trial of the least mean: where scores are noisy, the least of them is luck."""
        mean, _ = self.predict(self._units)
        return self._ended[np.where(np.isfinite(self._scores), mean, np.inf).argmin()]

    def _posterior(self, samples: int, more: int) -> posterior.Posterior:
        padded = gaussian_process.padded(self._rows, self._y, more)
        return posterior.observed(
            self._parameters, *padded, inputs=self._columns.inputs, samples=samples
        )


def observations(scores: np.ndarray) -> np.ndarray:
    """Scores (n,) as a Gaussian process likes them: nearly normal, mean 0, variance 1.

    What diverged (NaN) is as bad as the worst that did not; and nothing is worse than the median by
    more than 5 times what the best is better, so that bad trials do not hide how good ones differ.
    """
    failed = ~np.isfinite(scores)
    y = np.clip(np.where(failed, 0.0, scores), -1e100, 1e100)  # whose squares are finite
    known = y[~failed]
    middle, least = np.median(known), known.min()
    most = min(known.max(), middle + 5 * (middle - least)) if middle > least else known.max()
    y = np.where(failed, most, np.minimum(y, most))
    return _standardized(_power_transformed(_standardized(y)))


def _standardized(y: np.ndarray) -> np.ndarray:
    return (y - y.mean()) / (y.std() or 1.0)


def _power_transformed(y: np.ndarray) -> np.ndarray:
    """Yeo and Johnson (2000), by the exponent that makes y most nearly normal."""
    from scipy.optimize import minimize_scalar

    size = np.log1p(np.abs(y))

    def transformed(power):
        powers = np.where(y >= 0, power, 2 - power)
        safe = np.where(np.abs(powers) < 1e-8, 1e-8, powers)
        return np.sign(y) * np.expm1(safe * size) / safe

    def loss(power):
        change = (power - 1) * (np.sign(y) * size).mean()
        return np.log(transformed(power).var() + 1e-300) / 2 - change

    return transformed(minimize_scalar(loss, bounds=(-2.0, 3.0), method="bounded").x)


class _Columns:
    """What a Gaussian process sees of a space: a column for a number, one-hot ones for a choice.

    Whole numbers stand in the middle of their share, inactive axes at one place, so that points
    that are the same trial are the same row.
    """

    def __init__(self, space: Space):
        self.space = space
        self._widths = [axis.count if axis.kind == "choice" else 1 for axis in space.axes]
        self._owners = np.repeat(np.arange(space.size), self._widths)
        owners = [space.axes[owner] for owner in self._owners]
        self._continuous = np.array([not axis.count for axis in owners])
        self.inputs = gaussian_process.Inputs(
            axes=tuple(map(int, self._owners)),
            warped=tuple(axis.kind != "choice" for axis in owners),
        )

    def encode(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Rows (m, columns) of points (m, size), and which of their numbers may be moved."""
        places = {key: place for place, key in enumerate(self.space.keys)}
        active, parts = np.ones(units.shape, bool), []
        shares = np.zeros(units.shape, int)
        for place, axis in enumerate(self.space.axes):
            here = units[:, place]
            if axis.when:
                parent = places[axis.when[0]]
                wanted = self.space.axes[parent].values.index(axis.when[1])
                active[:, place] = active[:, parent] & (shares[:, parent] == wanted)
            shares[:, place] = np.clip((here * axis.count).astype(int), 0, max(axis.count - 1, 0))
            if axis.kind == "choice":  # at distance 1 from each other
                part, inactive = np.eye(axis.count)[shares[:, place]] / math.sqrt(2), 0.0
            else:
                inactive = 0.5
                part = ((shares[:, place] + 0.5) / axis.count if axis.count else here)[:, None]
            parts.append(np.where(active[:, [place]], part, inactive))
        return np.concatenate(parts, axis=1), active[:, self._owners] & self._continuous

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Points (m, size) of rows (m, columns)."""
        parts = np.split(rows, np.cumsum(self._widths)[:-1], axis=1)
        return np.stack(
            [
                (part.argmax(1) + 0.5) / axis.count if axis.kind == "choice" else part[:, 0]
                for part, axis in zip(parts, self.space.axes, strict=True)
            ],
            axis=1,
        )


def _units(space: Space, trials: Sequence[Trial]) -> np.ndarray:
    return np.array([space.encode(trial.values) for trial in trials]).reshape(-1, space.size)


def _candidates(space: Space, good: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Points (_GROUPS * _CANDIDATES, size): two groups from everywhere, two around good trials."""
    everywhere = random.random((2 * _CANDIDATES, space.size))
    near = good[random.integers(len(good), size=2 * _CANDIDATES)]
    counted = np.array([axis.count > 0 for axis in space.axes])
    moved = random.random(near.shape) < np.where(counted, 0.3, 0.5)
    reach = np.repeat(_REACH, _CANDIDATES)[:, None]
    step = np.clip(near + reach * random.standard_normal(near.shape), 0, 1)
    step = np.where(counted, random.random(near.shape), step)
    return np.concatenate([everywhere, np.where(moved, step, near)])


@contextlib.contextmanager
def _alone():
    """In float64, and with linear algebra in one thread.

    On busy cores two threads take 30 times as long for matrices as small as these.
    """
    with jax.enable_x64(True), threadpool_limits(1):
        yield
