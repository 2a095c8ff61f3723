"""Multi-label classification: each example has any number of L labels."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, log_expit, logsumexp

from research.tasks import metric, metrics
from research.tasks.task import Task, log_mean_sigmoid

_CURVE = 101  # recalls at which precision is drawn

_MACRO_F1 = dataclasses.replace(  # from the same sums
    metrics.micro_f1,
    name="macro_f1",
    finish=lambda counts, _: metric.of_decisions(counts)["macro_f1"],
)


class MultiLabel(Task):
    """Decide for each of L labels. Targets are float32 (B, L), outputs are logits (B, L)."""

    kind = "labels"
    losses = ("binary_cross_entropy",)
    known_metrics = {found.name: found for found in (_MACRO_F1, metrics.micro_f1)}
    default_metrics = ("macro_f1", "micro_f1")

    def targets(self, labels, statistics):
        """Return the labels as numbers."""
        return labels.astype(jnp.float32)

    def training_targets(self, targets, numbers):
        """Mix targets with 1 / 2 by `loss.label_smoothing`."""
        if not self.config.loss.label_smoothing:
            return targets
        smoothing = numbers["loss"]["label_smoothing"]
        return (1 - smoothing) * targets + smoothing / 2

    @property
    def guessing_loss(self):
        """Return the loss of probabilities of 1 / 2."""
        return self.outputs * float(np.log(2))

    def average(self, outputs):
        """Return the logits of the members' mean probabilities."""
        return log_mean_sigmoid(outputs)

    def answer(self, outputs):
        """Return probabilities of labels, float32 (B, L)."""
        return jax.nn.sigmoid(outputs)

    def predictions(self, outputs: np.ndarray) -> np.ndarray:
        """Return the mean probabilities of networks: (networks, n, L) -> float64 (n, L)."""
        return expit(np.asarray(outputs, np.float64)).mean(0)

    def chosen(self, predictions):
        """Return the names of the labels of each example, with semicolons between them."""
        return [
            ";".join(name for name, share in zip(self.names, row, strict=True) if share > 0.5)
            for row in predictions
        ]

    def score(self, outputs, labels, statistics):
        """Return 'labels' uint8 (n, L), 'probabilities' float64 (n, L) and the 'loss' (n,).

        The loss comes from logarithms: in float64 a logit of 37 has the probability 1.
        """
        logits = np.asarray(outputs, np.float64)
        yes, no = (
            logsumexp(log_expit(sign * logits), axis=0) - np.log(len(logits)) for sign in (1, -1)
        )
        return {
            "labels": labels,
            "probabilities": self.predictions(outputs),
            "loss": -np.where(labels > 0, yes, no).sum(-1),
        }

    def figures(self, scores):
        """Return 'mean_average_precision', 'macro_f1', 'micro_f1', 'loss' (nats).

        The loss is the sum over labels, the mean over examples. Average precision is that of
        `average_precision`, its mean is over the labels that occur.
        """
        true, shares = scores["labels"] > 0, scores["probabilities"]
        each = [average_precision(*pair) for pair in zip(true.T, shares.T, strict=True)]
        decided = shares > 0.5
        counts = (decided & true).sum(0), (decided & ~true).sum(0), (~decided & true).sum(0)
        f1 = metric.of_decisions(np.stack(counts))
        return {
            "mean_average_precision": float(np.nanmean(each)) if true.any() else float("nan"),
            "macro_f1": f1["macro_f1"],
            "micro_f1": f1["micro_f1"],
            "loss": float(scores["loss"].mean()),
        }

    def beside(self, scores):
        """Return 'average_precision' by label, of labels that occur."""
        pairs = zip(self.names, scores["labels"].T, scores["probabilities"].T, strict=True)
        return {
            "average_precision": {
                name: average_precision(true > 0, shares)
                for name, true, shares in pairs
                if true.any()
            }
        }

    def pictures(self, scores, split, load):
        """Return the arrays that a report draws.

        Returns:
          'label_names', 'label_counts' and 'label_average_precision' (L,); 'label_recall' (P,) and
          'label_precision' (L, P), the largest precision at a recall of at least that.
        """
        true, shares = scores["labels"] > 0, scores["probabilities"]
        recalls = np.linspace(0, 1, _CURVE)
        curves = np.full((self.outputs, _CURVE), np.nan)
        for label in range(self.outputs):
            if true[:, label].any():
                precision, recall = precision_recall(true[:, label], shares[:, label])
                best = np.maximum.accumulate(precision[::-1])[::-1]
                curves[label] = best[np.searchsorted(recall, recalls - 1e-12)]
        return {
            "label_names": np.array(self.names),
            "label_counts": true.sum(0),
            "label_average_precision": np.array(
                [average_precision(*pair) for pair in zip(true.T, shares.T, strict=True)]
            ),
            "label_recall": recalls,
            "label_precision": curves,
        }


def precision_recall(true: np.ndarray, shares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return precision and recall at each distinct threshold, the highest threshold first.

    Args:
      true: bool (N,), at least one of them true.
      shares: float (N,), the probabilities; examples of equal ones are taken together.
    """
    order = np.argsort(-shares, kind="stable")
    true, shares = true[order], shares[order]
    ends = np.append(np.flatnonzero(np.diff(shares)), len(shares) - 1)
    hits = np.cumsum(true)[ends]
    return hits / (ends + 1), hits / true.sum()


def average_precision(true: np.ndarray, shares: np.ndarray) -> float:
    """Return sum_n (R_n - R_{n-1}) P_n over thresholds; NaN for a label that does not occur."""
    if not true.any():
        return float("nan")
    precision, recall = precision_recall(true, shares)
    return float((np.diff(recall, prepend=0) * precision).sum())


build = MultiLabel
