"""Fit preprocessing to the training split, or read the statistics that a run has stored."""

from __future__ import annotations

import contextlib
import json
import math
from typing import TYPE_CHECKING

import jax
import numpy as np
from ml_collections import ConfigDict

from research import config as configuration
from research import tasks
from research.data import identity, offsets, preprocessing, stream
from research.data.dataset import Arrays, Records
from research.data.feed import preprocess
from research.names import bind, resolve

if TYPE_CHECKING:
    from research.training.checkpoints import Checkpoints

_CHUNK = 2**22  # numbers in a chunk of inputs: 32 MB in float64


def fit(config: ConfigDict, train: Arrays | Records, offset: np.ndarray | None) -> dict:
    """Return the statistics of preprocessing over the whole training split, in one pass.

    Also store the offset, if any, and for images that are not uint8 the range of each channel
    ('low' and 'high', (C,)), which augmentation needs.
    """
    if tasks.kind(config) == "tokens":
        return {}
    scheme = resolve("config.preprocessing.name", config.preprocessing.name, preprocessing)
    size = max(1, _CHUNK // math.prod(train.shape))
    ranged, extremes = train.dtype != np.uint8 and len(train.shape) == 3, []

    def inputs():
        for chunk in stream.chunks(train, size):
            if ranged:
                low, high = chunk.extremes
                extremes.append((low.min((0, 1)), high.max((0, 1))))
            yield chunk.inputs

    chunks = inputs()
    fit = bind(scheme, config.preprocessing, {})
    statistics = fit(chunks, 0.0 if offset is None else offset)
    if offset is not None:
        statistics["offset"] = offsets.parts(offset)
    if ranged:
        for _ in chunks:  # chunks that the scheme did not read
            pass
        lows, highs = zip(*extremes, strict=True)
        statistics |= {"low": np.min(lows, axis=0), "high": np.max(highs, axis=0)}
    return statistics


def shape_of(statistics: dict, train: Arrays | Records) -> tuple[int, ...]:
    """Return the shape of a preprocessed example."""
    one = jax.ShapeDtypeStruct((1, *train.shape), train.dtype)
    return jax.eval_shape(preprocess, statistics, one).shape[1:]


def takes(statistics: dict, train: Arrays | Records) -> bool:
    """Return whether statistics of an earlier fit are for inputs of this shape."""
    if "shift" not in statistics:
        return train.dtype.kind == "i"
    try:
        shape_of(statistics, train)
        return np.broadcast_shapes(np.shape(statistics.get("shift", 0)), train.shape) == train.shape
    except (TypeError, ValueError):  # shapes do not match
        return False


def fitted_before(checkpoints: Checkpoints, config: ConfigDict) -> dict | None:
    """Return the preprocessing that a run has stored, so that it need not be fitted again.

    The data get the offset of this preprocessing too. Callers compare fingerprints to refuse or
    report data that differ from those it was fitted to.

    Args:
      checkpoints: the checkpoints of the run.
      config: the current config of the run.

    Returns:
      The preprocessing of the newest readable checkpoint with the same `config.data` and
      `config.preprocessing`; None if there is none. Only the location of the data may differ: data
      that moved keep the offset that weights were trained with.
    """
    for step in reversed(checkpoints.steps()):
        with contextlib.suppress(Exception):  # skip damaged ones; `restore` reports them
            text = json.dumps(checkpoints.metadata(step)["config"])
            theirs = configuration.from_json(text, f"checkpoint {step}")  # adds newer keys
            changed = configuration.differences(config, theirs)
            if not any(
                key.startswith(("data.", "preprocessing.")) and key not in configuration.LOCATIONS
                for key in changed
            ):
                return checkpoints.weights(step)["preprocessing"]
    return None


def known_data(checkpoints: Checkpoints) -> dict:
    """Return the data's fingerprint in the newest readable checkpoint; {} without one."""
    for step in reversed(checkpoints.steps()):
        with contextlib.suppress(Exception):  # skip damaged ones; `restore` reports them
            return identity.of_metadata(checkpoints.metadata(step))
    return {}
