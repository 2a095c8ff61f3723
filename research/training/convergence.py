"""Whether a run that has ended was long enough, by its validation loss."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

_LEAST = 2  # evaluations in each half: fewer say nothing
_SHARE = 0.01  # of the loss of guessing: less is not worth another run


def still_falling(
    records: Sequence[Mapping], split: str, classes: int
) -> tuple[float, float] | None:
    """Return how far the validation loss fell over the second half of a run, if it fell much.

    The loss in the middle is the mean over the last fifth of the evaluations of the first half, the
    loss at the end that over the last fifth of the second half, so that noise is averaged out. A
    fall counts from a hundredth of the loss of guessing, log(classes), on.

    Args:
      records: of `metrics.jsonl`, in order of steps.
      split: whose records count.
      classes: number of classes.

    Returns:
      The mean loss in the middle and at the end; None where it did not fall so far, or there are
      fewer than four evaluations.
    """
    losses = [record["loss"] for record in records if record["split"] == split]
    half = len(losses) // 2
    if half < _LEAST:
        return None
    fifth = max(1, half // 5)
    middle, end = np.mean(losses[half - fifth : half]), np.mean(losses[-fifth:])
    if not middle - end > _SHARE * math.log(classes):
        return None
    return float(middle), float(end)


def told(middle: float, end: float) -> str:
    """Return the line for the screen."""
    return (
        f"the validation loss still fell, from {middle:.3g} in the middle of the training to "
        f"{end:.3g} at its end: a longer config.duration, or a higher "
        "config.optimizer.learning_rate, may do better"
    )
