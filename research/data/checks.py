"""Refuse data that cannot be trained on, in one line that names the first bad example."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from research.errors import UserError

# The task that each kind of labels is for: a value of `config.task.name`.
TASKS = {
    "classes": "classification",
    "labels": "multilabel",
    "numbers": "regression",
    "tokens": "next_token",
}
_LARGEST = np.float64(np.finfo(np.float32).max)


class Split(Protocol):
    """The parts of `Arrays` and `Records` (data/dataset.py) that checks read."""

    inputs: np.ndarray  # `Arrays` only
    extremes: tuple[np.ndarray, np.ndarray]  # `Arrays` only
    labels: np.ndarray
    shape: tuple[int, ...]
    dtype: np.dtype

    def number(self, row: int) -> int:
        """Return the number by which error messages name an example."""


def check_kind(name: str, kind: str, allowed: tuple[str, ...]) -> None:
    """Refuse a task whose kind of labels a data set does not have.

    Raises:
      UserError: `kind` is not among the allowed kinds.
    """
    if kind not in allowed:
        tasks = " or ".join(f"config.task.name = {TASKS[kind]!r}" for kind in allowed)
        raise UserError(
            f"config.data.name = {name!r} has no labels for config.task.name = {TASKS[kind]!r} "
            f"(allowed here: {tasks})"
        )


def check_arrays(arrays: Split, outputs: int, what: str, kind: str = "classes") -> None:
    """Refuse arrays that cannot be trained on.

    Args:
      arrays: the split to check.
      outputs: number of classes, labels, targets or tokens.
      what: name of the arrays in error messages.
      kind: of the labels.

    Raises:
      UserError: no examples, unequal lengths, labels that `check_labels` refuses, tokens out of
        range, or inputs that are not finite in float32; the line names the first bad example and
        its value.
    """
    inputs, labels = arrays.inputs, arrays.labels
    if len(labels) == 0:
        raise UserError(f"{what}: no examples")
    if len(inputs) != len(labels):
        raise UserError(f"{what}: {len(inputs)} inputs but {len(labels)} labels")
    check_labels(arrays, outputs, what, kind)
    if kind == "tokens":
        _check_tokens(arrays, outputs, what)
    elif inputs.dtype.kind == "f":
        low, high = arrays.extremes
        if not (low >= -_LARGEST).all() or not (high <= _LARGEST).all():  # NaN fails both
            bad = ~(np.abs(inputs) <= _LARGEST)
            rows = np.flatnonzero(bad.reshape(len(bad), -1).any(1))
            place = np.unravel_index(bad[rows[0]].argmax(), bad.shape[1:])
            raise UserError(
                f"{what}: example {arrays.number(rows[0])}, feature {feature_name(place)} is "
                f"{inputs[rows[0]][place]}, not finite in float32 (allowed: at most "
                f"{_LARGEST:.2g}; {rows.size} such examples)"
            )


def check_labels(split: Split, outputs: int, what: str, kind: str = "classes") -> None:
    """Refuse labels that are not of their kind (data/dataset.py).

    Args:
      split: the split whose labels are checked.
      outputs: number of classes, labels, targets or tokens.
      what: name of the split in error messages.
      kind: of the labels.

    Raises:
      UserError: the line names the first bad label and its example.
    """
    labels, low, high = split.labels, 0, outputs - 1
    shape = {"labels": (outputs,), "numbers": (outputs,), "tokens": split.shape}.get(kind, ())
    if labels.shape[1:] != shape:
        raise UserError(
            f"{what}: labels have shape {labels.shape} (allowed for config.task.name = "
            f"{TASKS[kind]!r}: {(len(labels), *shape)})"
        )
    if kind == "numbers":
        bad, allowed = ~(np.abs(labels) <= _LARGEST), f"numbers of at most {_LARGEST:.2g}"
    else:
        low, high = {"labels": (0, 1), "tokens": (-1, high)}.get(kind, (low, high))
        bad, allowed = (labels < low) | (labels > high), f"{low} to {high}"
    if bad.any():
        rows = np.flatnonzero(bad.reshape(len(bad), -1).any(1))
        value = labels[rows[0]][bad[rows[0]]].flat[0] if shape else labels[rows[0]]
        raise UserError(
            f"{what}: label {value} of example {split.number(rows[0])} is out of range "
            f"(allowed: {allowed}; {rows.size} such labels)"
        )


def _check_tokens(arrays: Split, outputs: int, what: str) -> None:
    inputs = arrays.inputs
    if inputs.ndim != 2 or inputs.dtype.kind not in "iu":
        raise UserError(
            f"{what}: inputs are {inputs.dtype} of shape {inputs.shape} (allowed for "
            f"config.task.name = {TASKS['tokens']!r}: whole numbers (N, T))"
        )
    bad = (inputs < 0) | (inputs >= outputs)
    if bad.any():
        row, place = np.argwhere(bad)[0]
        raise UserError(
            f"{what}: token {inputs[row, place]} of example {arrays.number(row)} is out of range "
            f"(allowed: 0 to {outputs - 1}; {int(bad.any(1).sum())} such examples)"
        )


def check_ranges(splits: Mapping[str, Split], what: str) -> None:
    """Refuse bytes in one split and fractions in another, whose ranges cannot be compared."""
    dtypes = {name: np.dtype(split.dtype) for name, split in splits.items()}
    kinds = {"f" if dtype.kind == "f" else dtype for dtype in dtypes.values()}
    if np.dtype(np.uint8) in kinds and "f" in kinds:
        told = ", ".join(f"{name} are {dtype}" for name, dtype in dtypes.items())
        raise UserError(
            f"{what}: inputs of {told}: their ranges cannot be compared (allowed: bytes "
            "from 0 to 255 in all splits, or floats in all)"
        )


def grey_hint(shape: tuple[int, ...]) -> str:
    """Return a hint for the error that inputs of this shape are no images; '' if none applies."""
    if len(shape) != 2:
        return ""
    return "; config.data.image_axes = 'NHW' reads the inputs of an .npz as grey images"


def feature_name(place: tuple[int, ...]) -> str:
    """Return the index of a feature in an example as text: '3' or '(0, 2, 1)'."""
    return str(int(place[0])) if len(place) == 1 else str(tuple(map(int, place)))
