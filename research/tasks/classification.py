"""Classification: each example has one class."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from scipy.special import log_expit, log_softmax, logsumexp

from research.errors import UserError
from research.tasks import calibration, metrics
from research.tasks.task import Task, log_mean_sigmoid, log_mean_softmax

_MOST_CLASSES = 200  # with more classes no confusion matrix is drawn, no figure by class is told
_CONFUSED = 30  # pairs of classes that are listed instead
_MISTAKES = 24
_BALANCED = ("balanced",)


class Classification(Task):
    """One of C classes. Targets are distributions over the classes, float32 (B, C)."""

    kind = "classes"
    losses = (
        "softmax_cross_entropy",
        "focal",
        "hinge",
        "binary_cross_entropy",
        "mean_squared_error",
    )
    known_metrics = {
        found.name: found
        for found in (
            metrics.accuracy,
            metrics.top5,
            metrics.log_loss,
            metrics.balanced_accuracy,
            metrics.macro_f1,
            metrics.recall,
            metrics.precision,
        )
    }
    default_metrics = ("accuracy",)

    def __init__(self, config: ConfigDict, names):
        """Resolve names; check the weights of classes.

        Raises:
          UserError: as `Task`; weights that are not one for each class.
        """
        super().__init__(config, names)
        weights = config.loss.class_weights
        if weights and weights != _BALANCED:
            numbers = [isinstance(w, (int, float)) and 0 <= w < np.inf for w in weights]
            if len(weights) != self.outputs or not all(numbers):
                raise UserError(
                    f"config.loss.class_weights = {weights!r} (allowed: (), ('balanced',), or "
                    f"{self.outputs} numbers of at least 0, one for each class)"
                )

    def statistics(self, labels):
        """Return the weight of each class, if any.

        ('balanced',) is N / (C n_c), so that all classes weigh alike and the mean weight is 1 (King
        and Zeng, 2001).
        """
        weights = self.config.loss.class_weights
        if not weights:
            return {}
        if weights == _BALANCED:
            counts = np.bincount(labels, minlength=self.outputs)
            weights = len(labels) / (self.outputs * np.maximum(counts, 1))
        return {"class_weights": np.asarray(weights, np.float32)}

    def targets(self, labels, statistics):
        """Return one-hot rows."""
        return jax.nn.one_hot(labels, self.outputs)

    def training_targets(self, targets, numbers):
        """Mix targets with the uniform distribution (Szegedy et al., 2016, section 7)."""
        if not self.config.loss.label_smoothing:
            return targets
        smoothing = numbers["loss"]["label_smoothing"]
        return (1 - smoothing) * targets + smoothing / self.outputs

    def loss(self, outputs, targets, statistics, numbers):
        """Return the losses, weighted by the classes of the targets in training."""
        losses, _ = super().loss(outputs, targets, statistics, numbers)
        if numbers is None or "class_weights" not in statistics:
            return losses, None
        weights = targets @ statistics["class_weights"]
        return weights * losses, weights

    def metrics(self, outputs, targets, mask, statistics):
        """Return the metrics of a batch; the log loss from the probabilities that are reported."""
        found = super().metrics(outputs, targets, mask, statistics)
        if "log_loss" in found and self._one_against_all:
            found["log_loss"] = metrics.log_loss(jax.nn.log_sigmoid(outputs), targets, mask)
        return found

    @property
    def weighted(self) -> bool:
        """Return whether classes have weights."""
        return bool(self.config.loss.class_weights)

    @property
    def guessing_loss(self):
        """Return the loss of equal outputs: log C for the log loss."""
        numbers = {"loss": self.config.loss}
        outputs = jnp.zeros((1, self.outputs))
        losses = self._loss(outputs, jax.nn.one_hot(jnp.zeros(1, int), self.outputs), numbers)
        return float(losses[0])

    @property
    def _by_log_loss(self) -> bool:
        return self.config.loss.name in (None, "softmax_cross_entropy")

    @property
    def _one_against_all(self) -> bool:
        return self.config.loss.name == "binary_cross_entropy"

    @property
    def _by_squares(self) -> bool:
        return self.config.loss.name == "mean_squared_error"

    def average(self, outputs):
        """Return the logs of the members' mean probabilities.

        Trained on squares, networks answer with the targets themselves: the mean of these.
        """
        if self._by_squares:
            return outputs.mean(0)
        return (log_mean_sigmoid if self._one_against_all else log_mean_softmax)(outputs)

    def answer(self, outputs):
        """Return probabilities of classes, float32 (B, C)."""
        return jax.nn.softmax(jax.nn.log_sigmoid(outputs) if self._one_against_all else outputs)

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return the probabilities of averaged networks: (networks, n, C) -> float64 (n, C).

        They are the mean of softmax(z). One against all: the mean logistic functions, divided by
        their sum; trained on squares: the softmax of the mean outputs.
        """
        return np.exp(self._logs(outputs))

    def chosen(self, predictions):
        """Return the name of the most probable class of each example."""
        return [self.names[label] for label in predictions.argmax(-1)]

    def _logs(self, outputs: np.ndarray) -> np.ndarray:
        outputs = np.asarray(outputs, np.float64)
        if self._by_squares:
            return log_softmax(outputs.mean(0), axis=-1)
        if self._one_against_all:
            return log_softmax(logsumexp(log_expit(outputs), axis=0), axis=-1)
        return logsumexp(log_softmax(outputs, axis=-1), axis=0) - np.log(len(outputs))

    def score(self, outputs, labels, statistics):
        """Score averaged probabilities.

        Returns:
          'labels' int (n,); 'predicted' int (n,), the most probable class; 'confidence' float64
          (n,), its probability; 'log_loss' float64 (n,), -log p(label) in nats; 'rank' int (n,),
          the number of classes that are more probable than the label. If the network is trained on
          another loss: 'loss' (n,), that of the averaged outputs.
        """
        logs = self._logs(outputs)
        rows, predicted = np.arange(len(labels)), logs.argmax(-1)
        of_label = logs[rows, labels]
        scores = {
            "labels": labels,
            "predicted": predicted,
            "confidence": np.exp(logs[rows, predicted]),
            "log_loss": -of_label,
            "rank": (logs > of_label[:, None]).sum(-1),
        }
        if not self._by_log_loss:
            together = self.average(jnp.asarray(outputs, jnp.float32))
            losses = self._loss(together, jax.nn.one_hot(labels, self.outputs), None)
            scores["loss"] = np.asarray(losses, np.float64)
        return scores

    def figures(self, scores):
        """Return 'accuracy', 'loss', 'ece', for more than 5 classes 'top5'.

        If the loss is not the log loss: also 'log_loss', in nats.
        """
        hits = scores["predicted"] == scores["labels"]
        log_loss = float(scores["log_loss"].mean())
        found = {
            "accuracy": float(hits.mean()),
            "loss": log_loss if self._by_log_loss else float(scores["loss"].mean()),
            "ece": calibration.expected_calibration_error(scores["confidence"], hits),
        }
        if not self._by_log_loss:
            found["log_loss"] = log_loss
        if self.outputs > 5:
            found["top5"] = float((scores["rank"] < 5).mean())
        return found

    def beside(self, scores):
        """Return figures that show whether unequal class sizes alone explain the accuracy.

        Returns:
          'balanced_accuracy' and 'macro_f1' of `metric.of_confusion`; 'majority_share', the
          accuracy of always answering the most frequent class; for up to 200 classes 'recall' and
          'precision' by class, of classes that occur.
        """
        examples, hits, predicted = by_class(scores, self.outputs)
        f1 = 2 * hits / np.maximum(examples + predicted, 1)
        occurs = examples > 0
        found = {
            "balanced_accuracy": float((hits[occurs] / examples[occurs]).mean()),
            "macro_f1": float(f1[examples + predicted > 0].mean()),
            "majority_share": float(examples.max() / examples.sum()),
        }
        if self.outputs <= _MOST_CLASSES:
            counts = zip(self.names, examples, hits, predicted, strict=True)
            counts = [(name, *map(int, numbers)) for name, *numbers in counts]
            found["recall"] = {name: hits / of for name, of, hits, _ in counts if of}
            found["precision"] = {name: hits / max(as_, 1) for name, of, hits, as_ in counts if of}
        return found

    def pictures(self, scores, split, load):
        """Return the arrays that a report draws.

        Returns:
          'class_names'; 'class_examples' and 'class_hits', int (C,). For up to 200 classes
          'confusion', int (C, C), whose rows are true classes. For more classes 'confused', int
          (K, 3): the true class, predicted class and count of the most frequent mistakes.
          'reliability_counts', '_confidences' and '_accuracies' from `calibration.reliability`. The
          most confident mistakes: 'mistake_labels', '_predictions', '_confidences', and '_images'
          if inputs are images.
        """
        hits = scores["predicted"] == scores["labels"]
        wrong = np.flatnonzero(~hits)
        worst = wrong[np.argsort(-scores["confidence"][wrong])][:_MISTAKES]
        examples, right, _ = by_class(scores, self.outputs)
        drawn = {
            "class_names": np.array(self.names),
            "class_examples": examples,
            "class_hits": right,
            "mistake_labels": scores["labels"][worst],
            "mistake_predictions": scores["predicted"][worst],
            "mistake_confidences": scores["confidence"][worst],
        }
        if self.outputs <= _MOST_CLASSES:
            drawn["confusion"] = confusion(scores, self.outputs)
        else:
            drawn["confused"] = most_confused(scores, _CONFUSED)
        if worst.size and split.shape[2:] in ((1,), (3,)):
            drawn["mistake_images"] = as_bytes(load(worst))
        bins = calibration.reliability(scores["confidence"], hits)
        return drawn | {f"reliability_{name}": values for name, values in bins.items()}


def by_class(scores: Mapping, classes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by class the numbers of examples, of hits and of predictions: int64 (classes,)."""
    hits = scores["predicted"] == scores["labels"]
    parts = scores["labels"], scores["labels"][hits], scores["predicted"]
    return tuple(np.bincount(part, minlength=classes) for part in parts)


def confusion(scores: Mapping, classes: int) -> np.ndarray:
    """Return the counts of true (rows) against predicted classes, int64 (classes, classes)."""
    places = scores["labels"] * classes + scores["predicted"]
    return np.bincount(places, minlength=classes**2).reshape(classes, classes)


def most_confused(scores: Mapping, most: int) -> np.ndarray:
    """Return the most frequent mistakes: int64 (K, 3), true class, predicted class and count."""
    wrong = scores["predicted"] != scores["labels"]
    pairs = np.stack([scores["labels"][wrong], scores["predicted"][wrong]], axis=1)
    pairs, counts = np.unique(pairs.astype(np.int64), axis=0, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:most]
    return np.column_stack([pairs[order], counts[order]])


def as_bytes(images: np.ndarray) -> np.ndarray:
    """Return images for display, uint8; floats are scaled from their common range."""
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    shares = (images.astype(np.float64) - low) / (high - low or 1.0)
    return np.round(255 * shares).astype(np.uint8)


build = Classification
