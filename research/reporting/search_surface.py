"""The surrogate of a search over two of its axes."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.tuning.axes import Axis
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, Trial

_FEWEST = 10  # trials with a score
_MOST = 300  # trials that are modelled: the time grows with their cube
_POINTS = 40  # along each axis


@dataclasses.dataclass(frozen=True)
class Surface:
    """Hold the predictions of a Gaussian process over two axes; the others are the best trial's."""

    axes: tuple[Axis, Axis]
    shares: tuple[float, float]  # of all axes' importance; of all their main effects
    others: dict[str, Any]  # the best trial's values of the axes that do not vary
    values: tuple[list, list]  # along each of them
    scores: np.ndarray  # (second, first)
    deviations: np.ndarray  # (second, first); 1: that of all scores, on the surrogate's scale


def surface(
    space: Space, trials: Sequence[Trial], best: Trial, shares: dict[str, float]
) -> Surface | None:
    """Fit a surrogate, and predict over the two most important axes that the best trial has.

    Args:
      space: the space that was searched.
      trials: of the search.
      best: the best trial; its score is finite.
      shares: importances by key; {}: the surrogate's own main effects are taken.

    Returns:
      The surface, or None if there are too few trials or axes.
    """
    scored = [trial for trial in trials if trial.reports and np.isfinite(trial.score)]
    if len(best.values) < 2 or len(scored) < _FEWEST:
        return None
    from research.tuning.bayesian import Surrogate  # imports jax

    known = sorted((t for t in trials if t in scored or t.end == DIVERGED), key=_score)
    places = np.unique(np.linspace(0, len(known) - 1, _MOST).astype(int))
    surrogate = Surrogate(space, sorted((known[p] for p in places), key=lambda t: t.number))
    shares = shares or _main_effects(surrogate, space)
    order = sorted(best.values, key=lambda key: shares.get(key, 0.0), reverse=True)
    first, second = sorted(space.keys.index(key) for key in order[:2])
    axes = space.axes[first], space.axes[second]
    of_all = tuple(shares.get(axis.key, 0.0) / (sum(shares.values()) or 1.0) for axis in axes)
    others = {key: value for key, value in best.values.items() if key not in order[:2]}
    values = tuple(map(_along, axes))
    units = np.tile(space.encode(best.values), (len(values[1]), len(values[0]), 1))
    units[..., first] = [axes[0].encode(value) for value in values[0]]
    units[..., second] = np.array([axes[1].encode(value) for value in values[1]])[:, None]
    mean, deviation = surrogate.predict(units.reshape(-1, space.size))
    shape = units.shape[:2]
    scores = surrogate.score(mean).reshape(shape)
    return Surface(axes, of_all, others, values, scores, deviation.reshape(shape))


def _score(trial: Trial) -> float:
    return np.inf if trial.end == DIVERGED else trial.score


def _along(axis: Axis) -> list:
    """Return values along an axis: all of a choice, otherwise evenly spread on its scale."""
    count = min(axis.count or _POINTS, _POINTS)
    places = np.linspace(0, 1, count) if count == _POINTS else (np.arange(count) + 0.5) / count
    return list(dict.fromkeys(axis.decode(place) for place in places))


def _main_effects(surrogate, space: Space) -> dict[str, float]:
    """Return the variance of the prediction along each axis, averaged over all others."""
    random = np.random.default_rng(0).random((128, space.size))
    effects = {}
    for place, axis in enumerate(space.axes):
        along = np.linspace(0.02, 0.98, 12)
        units = np.repeat(random[None], len(along), axis=0)
        units[..., place] = along[:, None]
        mean, _ = surrogate.predict(units.reshape(-1, space.size))
        effects[axis.key] = float(mean.reshape(units.shape[:2]).mean(axis=1).var())
    return effects
