"""Score predictions: a few numbers for each example, and figures computed from them.

Logits (networks, N, classes) of many classes do not fit into memory. They come in parts, and only
`Scores` are kept of each part.
"""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np
from scipy.special import log_softmax, logsumexp

from research.training.calibration import expected_calibration_error


@dataclasses.dataclass(frozen=True)
class Scores:
    """The predictions for a split.

    Attributes:
      labels: int (N,), the true classes.
      predicted: int (N,), the most probable class.
      confidence: float64 (N,), the probability of the predicted class.
      loss: float64 (N,), the log loss -log p(label) in nats.
    """

    labels: np.ndarray
    predicted: np.ndarray
    confidence: np.ndarray
    loss: np.ndarray

    @property
    def hits(self) -> np.ndarray:
        """Return whether each prediction is right, bool (N,)."""
        return self.predicted == self.labels


def scored(logits: np.ndarray, labels: np.ndarray) -> Scores:
    """Return the scores of averaged probabilities, computed in float64.

    Args:
      logits: float (networks, N, classes).
      labels: int (N,).
    """
    logs = log_softmax(np.asarray(logits, np.float64), axis=-1)
    logs = logsumexp(logs, axis=0) - np.log(len(logs))
    rows, predicted = np.arange(len(labels)), logs.argmax(-1)
    return Scores(labels, predicted, np.exp(logs[rows, predicted]), -logs[rows, labels])


def scored_in_parts(
    parts: Iterable[tuple[np.ndarray, np.ndarray]],
) -> tuple[list[Scores], Scores]:
    """Return the scores of each network alone, and of the averaged probabilities.

    Args:
      parts: pairs of logits (networks, n, classes) and labels (n,).
    """
    found = [
        ([scored(one[None], labels) for one in logits], scored(logits, labels))
        for logits, labels in parts
    ]
    each = [_joined(parts) for parts in zip(*(alone for alone, _ in found), strict=True)]
    return each, _joined([together for _, together in found])


def _joined(parts: Sequence[Scores]) -> Scores:
    names = [field.name for field in dataclasses.fields(Scores)]
    return Scores(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def figures(scores: Scores) -> dict[str, float]:
    """Return 'accuracy', 'loss' (nats) and 'ece', the calibration error."""
    return {
        "accuracy": float(scores.hits.mean()),
        "loss": float(scores.loss.mean()),
        "ece": expected_calibration_error(scores.confidence, scores.hits),
    }


def by_class(scores: Scores, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of examples and of right predictions by true class: int64 (classes,)."""
    return (
        np.bincount(scores.labels, minlength=classes),
        np.bincount(scores.labels[scores.hits], minlength=classes),
    )


def balance(scores: Scores, classes: int) -> dict[str, float]:
    """Return figures that show whether unequal class sizes alone explain the accuracy.

    Returns:
      'balanced_accuracy', the mean of the recalls of the classes that occur (Brodersen et al.,
      2010); 'majority_share', the accuracy of always answering the most frequent class.
    """
    examples, right = by_class(scores, classes)
    occurs = examples > 0
    return {
        "balanced_accuracy": float((right[occurs] / examples[occurs]).mean()),
        "majority_share": float(examples.max() / examples.sum()),
    }


def confusion(scores: Scores, classes: int) -> np.ndarray:
    """Return the counts of true (rows) against predicted classes, int64 (classes, classes)."""
    counts = np.bincount(scores.labels * classes + scores.predicted, minlength=classes**2)
    return counts.reshape(classes, classes)


def most_confused(scores: Scores, most: int) -> np.ndarray:
    """Return the most frequent mistakes: int64 (K, 3), true class, predicted class and count."""
    wrong = ~scores.hits
    pairs = np.stack([scores.labels[wrong], scores.predicted[wrong]], axis=1).astype(np.int64)
    pairs, counts = np.unique(pairs, axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return np.column_stack([pairs[order], counts[order]])


def compared(each: Sequence[Scores], together: Scores, names: Sequence[dict]) -> dict:
    """Return the figures of an ensemble beside those of its members.

    Args:
      each: the scores of each member alone.
      together: the scores of the averaged probabilities.
      names: what distinguishes the members, such as [{'seed': 0}, ...].

    Returns:
      'test_accuracy', 'test_loss' and 'test_ece' of the ensemble; 'members', the same figures of
      each member; 'members_mean' and 'members_spread', the mean and standard deviation (n - 1) of
      these figures.
    """
    alone = [of_test(figures(scores)) for scores in each]
    columns = {key: [found[key] for found in alone] for key in alone[0]}
    return {
        **of_test(figures(together)),
        "members": [{**name, **found} for name, found in zip(names, alone, strict=True)],
        "members_mean": {key: float(np.mean(column)) for key, column in columns.items()},
        "members_spread": {key: float(np.std(column, ddof=1)) for key, column in columns.items()},
    }


def of_test(found: dict) -> dict:
    """Return the figures under their names in `summary.json`."""
    return {f"test_{name}": value for name, value in found.items()}
