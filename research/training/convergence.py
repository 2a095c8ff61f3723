"""Decide by its validation loss whether a finished run was long enough."""

from collections.abc import Mapping, Sequence

import numpy as np

_LEAST = 2  # evaluations in each half; fewer are not judged
_SHARE = 0.01  # of the loss of guessing; a smaller fall is not worth another run


def still_falling(
    records: Sequence[Mapping], split: str, guessing_loss: float
) -> tuple[float, float] | None:
    """Return how far the validation loss fell over the second half of a run, if it fell much.

    The fall is from the least loss of the first half to the mean loss of the last tenth of the run,
    so that noise does not count. Ignore falls of at most 1 % of the loss of guessing.

    Args:
      records: records of `metrics.jsonl`, in order of steps.
      split: name of the split whose records count.
      guessing_loss: `Task.guessing_loss`.

    Returns:
      Both losses; None if the loss did not fall so far, or there are fewer than four evaluations.
    """
    losses = [record.get("loss") for record in records if record["split"] == split]
    losses = [loss for loss in losses if loss is not None]  # as a damaged line has it
    half = len(losses) // 2
    if half < _LEAST:
        return None
    before, end = min(losses[:half]), float(np.mean(losses[-max(1, half // 5) :]))
    return (before, end) if before - end > _SHARE * guessing_loss else None


def told(before: float, end: float) -> str:
    """Return the line that reports the fall."""
    return (
        f"the validation loss still fell, from {before:.3g} in the first half of the training to "
        f"{end:.3g} at its end: a longer config.duration, or a higher "
        "config.optimizer.learning_rate, may do better"
    )
