"""Bayesian optimisation: fit a Gaussian process to the scores of trials, and propose points."""

import contextlib
import functools
import math
from collections.abc import Sequence

import jax
import numpy as np
from jax.tree_util import Partial
from threadpoolctl import threadpool_limits

from research.tuning import gaussian_process, posterior
from research.tuning.sequences import generator, sobol_points
from research.tuning.spaces import Space
from research.tuning.trials import RUNNING, Trial

_SAMPLES = 16  # number of samples of fantasies
_GROUPS, _CANDIDATES = 4, 256  # number of groups of candidates, and of candidates in each
_REACH = (0.1, 0.01)  # standard deviations of candidates around good trials, in the unit cube


def propose(
    space: Space,
    trials: Sequence[Trial],
    count: int,
    seed: int,
    acquisition: functools.partial,
) -> np.ndarray:
    """Propose points (count, size) of the unit cube: first a Sobol sequence, then batches.

    `acquisition` is a function of research/tuning/acquisition.py, bound to its numbers.
    """
    beginning = count
    if any(math.isfinite(trial.outcome) for trial in trials):
        beginning = min(max(8, 2 * space.size) - len(trials), count)
    if beginning == count:
        return sobol_points(space.size, seed, len(trials), count)
    first = np.zeros((0, space.size))
    if beginning > 0:
        first = sobol_points(space.size, seed, len(trials), beginning)
    random = generator(seed, len(trials))
    batch = Surrogate(space, trials).batch(first, count - len(first), random, acquisition)
    return np.concatenate([first, batch])


class Surrogate:
    """A Gaussian process over the scores of a search.

    Args:
      space: of the search.
      trials: at least one has a finite score.
    """

    def __init__(self, space: Space, trials: Sequence[Trial]):
        self._columns = _Columns(space)
        self._ended = [trial for trial in trials if trial.end != RUNNING]
        self._running = _units(space, [trial for trial in trials if trial.end == RUNNING])
        self._units = _units(space, self._ended)
        self._rows, _ = self._columns.encode(self._units)
        self._scores = np.array([trial.outcome for trial in self._ended])
        self._y = observations(self._scores)
        with _small_float64():
            self._parameters = gaussian_process.fit(self._rows, self._y, self._columns.inputs)

    def batch(
        self,
        first: np.ndarray,
        count: int,
        random: np.random.Generator,
        acquisition: functools.partial,
    ) -> np.ndarray:
        """Propose points (count, size), given running trials and the points `first` (p, size)."""
        from scipy.special import ndtri

        pending, _ = self._columns.encode(np.concatenate([self._running, first]))
        units = _candidates(self._columns.space, self._units[np.argsort(self._y)[:5]], random)
        groups, free = (
            part.reshape(_GROUPS, _CANDIDATES, -1) for part in self._columns.encode(units)
        )
        quantiles = ndtri((np.arange(_SAMPLES) + 0.5) / _SAMPLES)
        draws = random.permuted(np.tile(quantiles, (len(pending) + count, 1)), axis=1)
        # As arguments of a Partial, numbers do not cause a new compilation.
        acquisition = Partial(acquisition.func, **acquisition.keywords)
        with _small_float64():
            given = self._posterior(_SAMPLES, len(draws))
            place = len(self._rows)
            rows = posterior.batch(
                acquisition, given, place, pending, groups, free, draws, self._columns.inputs
            )
        return self._columns.decode(rows)

    def predict(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and deviation at points (m, size), on the scale of `observations`."""
        rows, _ = self._columns.encode(units)
        with _small_float64():
            mean, variance = posterior.predicted(self._posterior(1, 0), rows, self._columns.inputs)
            return np.asarray(mean)[0], np.sqrt(variance)

    def score(self, y: np.ndarray) -> np.ndarray:
        """Return the scores of values on the scale of `observations`, by interpolation."""
        seen = np.argsort(self._y, kind="stable")
        seen = seen[np.isfinite(self._scores[seen])]
        return np.interp(y, self._y[seen], self._scores[seen])

    def best(self) -> Trial:
        """Return the trial with the least posterior mean; the least noisy score may be luck."""
        mean, _ = self.predict(self._units)
        return self._ended[np.where(np.isfinite(self._scores), mean, np.inf).argmin()]

    def _posterior(self, samples: int, more: int) -> posterior.Posterior:
        padded = gaussian_process.padded(self._rows, self._y, more)
        return posterior.observed(
            self._parameters, *padded, inputs=self._columns.inputs, samples=samples
        )


def observations(scores: np.ndarray) -> np.ndarray:
    """Transform scores (n,) to be nearly normal with mean 0 and variance 1.

    Diverged trials (NaN) get the worst finite score. Scores above the median are clipped at 5 times
    the distance from the best to the median, so that bad trials do not mask differences of good
    ones.
    """
    failed = ~np.isfinite(scores)
    y = np.clip(np.where(failed, 0.0, scores), -1e100, 1e100)  # their squares are finite
    known = y[~failed]
    middle, least = np.median(known), known.min()
    most = min(known.max(), middle + 5 * (middle - least)) if middle > least else known.max()
    y = np.where(failed, most, np.minimum(y, most))
    return _standardized(_power_transformed(_standardized(y)))


def _standardized(y: np.ndarray) -> np.ndarray:
    return (y - y.mean()) / (y.std() or 1.0)


def _power_transformed(y: np.ndarray) -> np.ndarray:
    """Apply the transform of Yeo and Johnson (2000) with the most likely exponent."""
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
    """The input columns of a space: one for a number, one-hot columns for a choice.

    Whole numbers are at the middle of their interval and inactive axes at a fixed value, so that
    points of the same trial have equal rows.
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
        """Return rows (m, columns) of points (m, size), and a mask of numbers that may change."""
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
            if axis.kind == "choice":  # values have distance 1 from each other
                part, inactive = np.eye(axis.count)[shares[:, place]] / math.sqrt(2), 0.0
            else:
                inactive = 0.5
                part = ((shares[:, place] + 0.5) / axis.count if axis.count else here)[:, None]
            parts.append(np.where(active[:, [place]], part, inactive))
        return np.concatenate(parts, axis=1), active[:, self._owners] & self._continuous

    def decode(self, rows: np.ndarray) -> np.ndarray:
        """Return the points (m, size) of rows (m, columns)."""
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
    """Draw points (_GROUPS * _CANDIDATES, size): two uniform groups, two around good trials."""
    everywhere = random.random((2 * _CANDIDATES, space.size))
    near = good[random.integers(len(good), size=2 * _CANDIDATES)]
    counted = np.array([axis.count > 0 for axis in space.axes])
    moved = random.random(near.shape) < np.where(counted, 0.3, 0.5)
    reach = np.repeat(_REACH, _CANDIDATES)[:, None]
    step = np.clip(near + reach * random.standard_normal(near.shape), 0, 1)
    step = np.where(counted, random.random(near.shape), step)
    return np.concatenate([everywhere, np.where(moved, step, near)])


@contextlib.contextmanager
def _small_float64():
    """Compute in float64, with linear algebra in one thread.

    For matrices as small as these, two threads on busy cores take 30 times as long.
    """
    with jax.enable_x64(True), threadpool_limits(1):
        yield
