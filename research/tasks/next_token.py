"""Next-token prediction: a causal model of sequences, such as text."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax, logsumexp

from research.errors import UserError
from research.tasks import metrics
from research.tasks.metric import Metric, mean
from research.tasks.task import Task, log_mean_softmax


def _hits(outputs, targets, mask):
    counted = (targets >= 0) & mask[:, None]
    hits = counted & (outputs.argmax(-1) == targets)
    return hits.sum(dtype=jnp.int32), counted.sum(dtype=jnp.int32)


_ACCURACY = Metric("accuracy", _hits, mean, higher_is_better=True)


class NextToken(Task):
    """The next token at each position. Targets are int32 (B, T), outputs are logits (B, T, V).

    Targets of -1 are padding and count nowhere.
    """

    kind = "tokens"
    weighted = True  # by their numbers of tokens
    losses = ("softmax_cross_entropy",)
    known_metrics = {
        found.name: found for found in (metrics.bits_per_character, metrics.perplexity, _ACCURACY)
    }
    default_metrics = ("bits_per_character", "perplexity", "accuracy")

    def __init__(self, config, names):
        """Resolve names.

        Raises:
          UserError: as `Task`; mixing of examples, which tokens do not have.
        """
        super().__init__(config, names)
        if config.augmentation.mixing != "none":
            raise UserError(
                f"config.augmentation.mixing = {config.augmentation.mixing!r}: tokens cannot be "
                "mixed (allowed with config.task.name = 'next_token': 'none')"
            )

    def targets(self, labels, statistics):
        """Return the labels, which are the next tokens."""
        return labels

    def loss(self, outputs, targets, statistics, numbers):
        """Return the summed loss of each example in nats, and its number of tokens.

        With `loss.label_smoothing` s: (1 - s) times the log loss, plus s times the mean over all
        tokens of -log p.
        """
        logs = jax.nn.log_softmax(outputs)
        counted = targets >= 0
        wanted = jnp.maximum(targets, 0)[..., None]
        losses = -jnp.take_along_axis(logs, wanted, axis=-1)[..., 0]
        if numbers is not None and self.config.loss.label_smoothing:
            smoothing = numbers["loss"]["label_smoothing"]
            losses = (1 - smoothing) * losses - smoothing * logs.mean(-1)
        return jnp.where(counted, losses, 0).sum(-1), counted.sum(-1, dtype=jnp.int32)

    @property
    def guessing_loss(self):
        """Return the loss of equal probabilities, in nats."""
        return float(np.log(max(self.outputs, 2)))

    def average(self, outputs):
        """Return the logs of the members' mean probabilities."""
        return log_mean_softmax(outputs)

    def answer(self, outputs):
        """Return probabilities of the next tokens, float32 (B, T, V)."""
        return jax.nn.softmax(outputs)

    def predictions(self, outputs):
        """Return the mean probabilities of the next tokens, float64 (n, T, V)."""
        return np.exp(_mean_logs(outputs))

    def score(self, outputs, labels, statistics):
        """Return 'loss' float64 (n, T) in nats, 'hits' and 'counted' bool (n, T)."""
        logs = _mean_logs(outputs)
        counted = labels >= 0
        losses = -np.take_along_axis(logs, np.maximum(labels, 0)[..., None], axis=-1)[..., 0]
        return {
            "loss": np.where(counted, losses, 0),
            "hits": counted & (logs.argmax(-1) == labels),
            "counted": counted,
        }

    def figures(self, scores):
        """Return 'bits_per_character', 'perplexity', 'accuracy', and the 'loss' in nats a token."""
        tokens = scores["counted"].sum()
        loss = float(scores["loss"].sum() / tokens)
        return {
            "bits_per_character": loss / float(np.log(2)),
            "perplexity": float(np.exp(loss)),
            "accuracy": float(scores["hits"].sum() / tokens),
            "loss": loss,
        }

    def pictures(self, scores, split, load):
        """Return 'token_names' (V,) and 'position_loss' (T,), in bits by position."""
        counts = scores["counted"].sum(0)
        losses = scores["loss"].sum(0) / np.maximum(counts, 1) / np.log(2)
        return {
            "token_names": np.array(self.names),
            "position_loss": np.where(counts > 0, losses, np.nan),
        }


def _mean_logs(outputs: np.ndarray) -> np.ndarray:
    logs = log_softmax(np.asarray(outputs, np.float64), axis=-1)
    return logsumexp(logs, axis=0) - np.log(len(logs))


build = NextToken
