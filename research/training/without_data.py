"""Make the `Setup` of a trained network whose training data are not loaded."""

from collections.abc import Sequence

import numpy as np
from ml_collections import ConfigDict

from research import tasks
from research.data.dataset import Arrays, Records
from research.errors import UserError
from research.training.setup import Setup

_LABELS = {"classes": np.int32, "labels": np.uint8, "numbers": np.float32, "tokens": np.int32}


def setup(
    config: ConfigDict,
    split: Arrays | Records | None,
    class_names: Sequence[str],
    known: dict,
    statistics: dict,
) -> Setup:
    """Return the `Setup` of a trained network whose training data are not loaded.

    Its training split is a stand-in, with the number and the shape of the examples.

    Args:
      config: config of the run.
      split: examples of another data set to test on; None: there are none.
      class_names: class names of the run.
      known: the fingerprint of the run's data; {} if there is none.
      statistics: preprocessing statistics from the run's checkpoint.

    Raises:
      UserError: the shape of the examples differs from that of the run's examples.
    """
    if split is None and "train" not in known:
        raise UserError(
            "the checkpoint is of an earlier version, which did not store the shape of its inputs "
            "(research.evaluate --path=DATA reads it from data)"
        )
    shape = tuple(known["train"]["shape"]) if "train" in known else split.shape
    if split is not None and shape != split.shape:
        raise UserError(
            f"the examples have shape {split.shape} (allowed, as the run was trained on: {shape})"
        )
    count = known["cut"]["train"] if "cut" in known else max(len(split), config.batch_size)
    dtype = known["train"]["dtype"] if split is None else split.dtype
    of_example = {"labels": (len(class_names),), "numbers": (len(class_names),), "tokens": shape}
    kind = tasks.kind(config)
    labels = np.zeros((), _LABELS[kind])
    stand_in = Arrays(  # takes no memory
        np.broadcast_to(np.zeros((), dtype), (count, *shape)),
        np.broadcast_to(labels, (count, *of_example.get(kind, ()))),
    )
    return Setup(config, stand_in, stand_in, split or stand_in, tuple(class_names), statistics)
