"""Metrics by name; a task states which of them fit its outputs."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from research.tasks.metric import mean, mean_over, metric, of_confusion, of_decisions
from research.tasks.metric import token_losses as _token_losses


@metric(higher_is_better=True)
def accuracy(outputs, targets, mask):
    """Return the share of examples whose largest output is that of the largest target."""
    return mean_over(mask, outputs.argmax(-1) == targets.argmax(-1))


@metric(higher_is_better=True)
def top5(outputs, targets, mask):
    """Return the share of examples whose class is among the five largest outputs."""
    wanted = jnp.take_along_axis(outputs, targets.argmax(-1, keepdims=True), axis=-1)
    return mean_over(mask, (outputs > wanted).sum(-1) < 5)


@metric(higher_is_better=False)
def log_loss(outputs, targets, mask):
    """Return the mean of -log softmax(z)_y in nats, whatever the network was trained on."""
    logs = jax.nn.log_softmax(outputs)
    return mean_over(mask, -(targets * logs).sum(-1))


def _confusion(outputs, targets, mask):
    classes = outputs.shape[-1]
    places = targets.argmax(-1) * classes + outputs.argmax(-1)
    counts = jnp.zeros(classes**2, jnp.int32).at[places].add(mask.astype(jnp.int32))
    return counts.reshape(classes, classes), mask.sum(dtype=jnp.int32)


def _part_of_confusion(name: str) -> Callable:
    return lambda counts, _: of_confusion(counts)[name]


@metric(higher_is_better=True, finish=_part_of_confusion("balanced_accuracy"))
def balanced_accuracy(outputs, targets, mask):
    """Return the mean recall of the classes that occur (Brodersen et al., 2010)."""
    return _confusion(outputs, targets, mask)


@metric(higher_is_better=True, finish=_part_of_confusion("macro_f1"))
def macro_f1(outputs, targets, mask):
    """Return the mean F1 of classes that occur or are predicted, or of all labels."""
    return _confusion(outputs, targets, mask)


@metric(finish=_part_of_confusion("recall"))
def recall(outputs, targets, mask):
    """Return the share of each class's examples that are given to it."""
    return _confusion(outputs, targets, mask)


@metric(finish=_part_of_confusion("precision"))
def precision(outputs, targets, mask):
    """Return the share of the examples given to each class that belong to it."""
    return _confusion(outputs, targets, mask)


@metric(higher_is_better=True, finish=lambda counts, _: of_decisions(counts)["micro_f1"])
def micro_f1(outputs, targets, mask):
    """Return the F1 of all decisions about labels together."""
    predicted, true, mask_of_labels = outputs > 0, targets > 0.5, mask[:, None]
    kinds = (predicted & true, predicted & ~true, ~predicted & true)
    counts = [(kind & mask_of_labels).sum(0, dtype=jnp.int32) for kind in kinds]
    return jnp.stack(counts), mask.sum(dtype=jnp.int32)


@metric(higher_is_better=False, finish=lambda total, weight: np.sqrt(mean(total, weight)))
def rmse(outputs, targets, mask):
    """Return the root of the mean squared error over examples and targets, in the targets' unit."""
    return mean_over(mask, jnp.square(outputs - targets).mean(-1))


@metric(higher_is_better=False)
def mae(outputs, targets, mask):
    """Return the mean absolute error over examples and targets, in the targets' unit."""
    return mean_over(mask, jnp.abs(outputs - targets).mean(-1))


def _of_r2(sums, examples):
    errors, total, squares = np.asarray(sums, np.float64)
    spread = squares - total**2 / examples
    with np.errstate(invalid="ignore", divide="ignore"):
        each = np.where(spread > 0, 1 - errors / spread, np.nan)
    return float(each.mean())


@metric(higher_is_better=True, finish=_of_r2)
def r2(outputs, targets, mask):
    """Return 1 - sum (z - t)^2 / sum (t - mean t)^2, the mean over targets.

    It is NaN for constant targets.

    It does not depend on the unit. Give it standardised values: sums of squares of large numbers
    that differ little lose their digits in float32.
    """
    values = jnp.stack([jnp.square(outputs - targets), targets, jnp.square(targets)], axis=1)
    return mean_over(mask, values)


@metric(higher_is_better=False, finish=lambda nats, tokens: mean(nats, tokens) / np.log(2))
def bits_per_character(outputs, targets, mask):
    """Return the mean of -log2 p(token) over tokens that are not padding (targets of -1)."""
    return _token_losses(outputs, targets, mask)


@metric(higher_is_better=False, finish=lambda nats, tokens: np.exp(mean(nats, tokens)))
def perplexity(outputs, targets, mask):
    """Return the exponential of the mean loss in nats over tokens."""
    return _token_losses(outputs, targets, mask)
