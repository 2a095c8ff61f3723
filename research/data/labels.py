"""Labels as people have them, as classes 0 ... C - 1 with names."""

from collections.abc import Mapping

import numpy as np

from research.data.description import printable, some
from research.errors import UserError


def plain(labels: np.ndarray, what: str) -> tuple[np.ndarray, str]:
    """Return labels as one number or word each, whatever form they come in.

    Numbers may be bool, floats that are whole, of shape (N, 1), or one-hot rows (N, C).

    Args:
      labels: any array.
      what: names it in errors.

    Returns:
      The labels, int64 or words (N,), and in words how they were read; '': as they are.

    Raises:
      UserError: another shape or dtype, a missing label, or numbers that are no classes.
    """
    told, shape = "", labels.shape
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels, told = labels[:, 0], "labels (N, 1) are read as (N,)"
    elif labels.ndim == 2 and labels.dtype.kind in "buif":
        ones = (labels == 1).sum(1)
        bad = np.flatnonzero((ones != 1) | ((labels == 0).sum(1) != shape[1] - 1))
        if bad.size:
            raise UserError(
                f"{what} have shape {shape}, and row {bad[0]} is not one-hot (allowed: one label "
                f"for each example, or one-hot rows; {bad.size} such rows)"
            )
        labels, told = labels.argmax(1), "one-hot labels are read as numbers of their columns"
    if labels.ndim != 1:
        raise UserError(f"{what} have shape {shape} (allowed: (N,), or one-hot rows (N, C))")
    kind = labels.dtype.kind
    if kind in "buif":
        return (labels.astype(str) if kind == "b" else _whole(labels, what)), told
    if kind not in "SU":
        raise UserError(f"{what} are {labels.dtype} (allowed: whole numbers, bools, or words)")
    try:
        labels = np.char.decode(labels, "utf-8") if kind == "S" else labels
    except UnicodeDecodeError as error:
        raise UserError(f"{what}: {error.object[:20]!r} is not UTF-8 (allowed: words)") from None
    empty = np.flatnonzero(labels == "")
    if empty.size:
        raise UserError(f"{what}: example {empty[0]} has no label ({empty.size} such examples)")
    return labels, told


def as_classes(
    splits: Mapping[str, np.ndarray], what: Mapping[str, str], whole: bool = False
) -> tuple[tuple[str, ...], dict[str, np.ndarray], str]:
    """Map the labels that occur in train to 0 ... C - 1, in their order, in all splits.

    Args:
      splits: by name, among them 'train': labels as from `plain`.
      what: names each in errors.
      whole: whether the labels of all splits are mapped, however few, and train may be missing.

    Returns:
      The class names, which are the labels; int32 (N,) by split; and in words which labels were
      not 0 ... C - 1 before; '': all were, or are words.

    Raises:
      UserError: labels that train does not have, words here and numbers there, or what looks like
        numbers to be predicted or like examples without a label.
    """
    first = next(iter(splits))
    train = np.concatenate([*splits.values()]) if whole else splits["train"]
    values, counts = np.unique(train, return_counts=True)
    if not whole and len(values) > 20 and 2 * len(values) > len(train):
        raise UserError(
            f"{what[first]} have {len(values)} different values for {len(train)} examples: they "
            "look like targets of a regression, or names of the examples (allowed: classes)"
        )
    words = train.dtype.kind == "U"
    if not words and len(values) > 2 and values[0] == -1 and values[1] == 0:
        raise UserError(
            f"{what[first]}: label -1 of example {np.argmax(train == -1)} is often that of "
            f"examples without a label ({counts[0]} such labels; allowed: whole numbers from 0, "
            "or words)"
        )
    mapped = {}
    for name, labels in splits.items():
        if (labels.dtype.kind == "U") != words:
            raise UserError(f"{what[first]} are {_kind(train)}, {what[name]} are {_kind(labels)}")
        extra = np.setdiff1d(labels, values)
        if extra.size:
            raise UserError(
                f"{what[name]}: {some(extra, 10)} {'is' if extra.size == 1 else 'are'} not in "
                f"{what[first]} (allowed: {some(values, 10)})"
            )
        mapped[name] = np.searchsorted(values, labels).astype(np.int32)
    told = ""
    if not words and not np.array_equal(values, np.arange(len(values))):
        told = (
            f"the {len(values)} labels from {values[0]} to {values[-1]} are classes 0 to "
            f"{len(values) - 1}, which keep them as names"
        )
    return tuple(map(str, values)), mapped, told


def _whole(labels: np.ndarray, what: str) -> np.ndarray:
    """Return numbers as int64, refusing those that are not whole."""
    numbers = labels.astype(np.float64)
    # Beyond this, floats are whole because their digits end, and other numbers do not fit.
    inside = np.abs(numbers) < (2**53 if labels.dtype.kind == "f" else 2**63)
    bad = np.flatnonzero(~inside | (numbers != np.round(numbers)))
    if not bad.size:
        return labels.astype(np.int64)
    hint = ": they look like targets of a regression" if inside[bad[0]] else ""
    raise UserError(
        f"{what} are {labels.dtype}, that of example {bad[0]} is {labels[bad[0]]}{hint} (allowed: "
        f"whole numbers below 2^53, or words; {bad.size} such labels)"
    )


def _kind(labels: np.ndarray) -> str:
    first = printable(str(labels[0])) if len(labels) else ""
    return f"{'words' if labels.dtype.kind == 'U' else 'numbers'}, such as {first}"
