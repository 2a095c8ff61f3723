"""Define metrics: (outputs, targets, mask) -> (sum, weight) over a batch.

Sums and weights of batches add up exactly to those of a split, on any number of devices. `finish`
turns the total into what is reported; by default it is sum / weight. A metric may sum arrays, such
as a confusion matrix. Outputs and targets are in the unit of the user's targets.

A metric of one's own is a function with the decorator `metric`:

    @metric(higher_is_better=False)
    def brier(outputs, targets, mask):
        error = jnp.square(jax.nn.softmax(outputs) - targets).sum(-1)
        return mean_over(mask, error)
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric that adds up over batches.

    Attributes:
      name: its name in `metrics.jsonl`.
      sums: (outputs, targets, mask bool (B,)) -> (sum, weight), of any fixed shapes.
      finish: NumPy (sum, weight) -> a number, an array, or a dict of both by name.
      higher_is_better: the direction for early stopping and search; None: it cannot be an
        objective.
    """

    name: str
    sums: Callable
    finish: Callable[[Any, Any], Any]
    higher_is_better: bool | None = None

    def __post_init__(self):
        # As a function of its module: a name of the config, explained in docs/vocabulary.md.
        object.__setattr__(self, "__doc__", self.sums.__doc__)
        object.__setattr__(self, "__module__", self.sums.__module__)

    def __call__(self, outputs: jax.Array, targets: jax.Array, mask: jax.Array):
        """Return the sum and the weight of a batch."""
        return self.sums(outputs, targets, mask)


def mean(total, weight):
    """Return total / weight in float64; NaN for a weight of 0."""
    weight = np.asarray(weight, np.float64)
    return np.asarray(total, np.float64) / np.where(weight == 0, np.nan, weight)


def metric(higher_is_better: bool | None = None, finish: Callable = mean) -> Callable:
    """Return a decorator that makes a `Metric` of a function; its name is the function's."""
    return lambda function: Metric(function.__name__, function, finish, higher_is_better)


def as_metric(function: Callable) -> Metric:
    """Return a `Metric`; a plain function has no direction and is averaged."""
    return function if isinstance(function, Metric) else metric()(function)


def mean_over(mask: jax.Array, values: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the sum of values (B, ...) over the unmasked examples, and their number.

    Bools are counted in int32, which is exact.
    """
    mask_of_values = mask.reshape(-1, *[1] * (values.ndim - 1))
    if values.dtype == bool:
        total = (values & mask_of_values).sum(0, dtype=jnp.int32)
    else:
        total = jnp.where(mask_of_values, values, 0).sum(0)
    return total, mask.sum(dtype=jnp.int32)


def of_confusion(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return figures from counts of true (rows) against predicted classes, (C, C).

    Returns:
      'recall', 'precision' and 'f1' by class, float64 (C,): NaN for the recall of a class without
      examples, 0 for the precision of a class that is never predicted, as in scikit-learn;
      'balanced_accuracy', the mean recall of the classes that occur (Brodersen et al., 2010);
      'macro_f1', the mean F1 of the classes that occur or are predicted.
    """
    counts = np.asarray(counts, np.float64)
    right, true, predicted = np.diag(counts), counts.sum(1), counts.sum(0)
    with np.errstate(invalid="ignore", divide="ignore"):
        recall = right / true
        precision = np.where(predicted > 0, right / predicted, 0.0)
        f1 = 2 * right / (true + predicted)
    return {
        "recall": recall,
        "precision": precision,
        "f1": f1,
        "balanced_accuracy": float(recall[true > 0].mean()) if counts.any() else np.nan,
        "macro_f1": float(f1[true + predicted > 0].mean()) if counts.any() else np.nan,
    }


def of_decisions(counts: np.ndarray) -> dict[str, np.ndarray]:
    """Return figures from (true positives, false positives, false negatives) by label, (3, L).

    Returns:
      'f1' by label, 0 for a label that neither occurs nor is predicted, as in scikit-learn;
      'macro_f1', its mean; 'micro_f1', the F1 of all decisions together.
    """
    hits, false, missed = np.asarray(counts, np.float64)

    def f1(hits, false, missed):
        return 2 * hits / np.maximum(2 * hits + false + missed, 1)

    each = f1(hits, false, missed)
    together = f1(hits.sum(), false.sum(), missed.sum())
    return {"f1": each, "macro_f1": float(each.mean()), "micro_f1": float(together)}


def token_losses(outputs, targets, mask):
    """Return the summed loss in nats, float32, and the number of tokens, int32.

    Args:
      outputs: logits, float (B, T, V).
      targets: int (B, T), -1 for padding.
      mask: bool (B,).
    """
    counted = (targets >= 0) & mask[:, None]
    logs = jax.nn.log_softmax(outputs)
    losses = -jnp.take_along_axis(logs, jnp.maximum(targets, 0)[..., None], axis=-1)[..., 0]
    return jnp.where(counted, losses, 0).sum(), counted.sum(dtype=jnp.int32)
