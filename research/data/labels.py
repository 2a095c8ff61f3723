"""Convert a user's labels to classes 0 ... C - 1 with names."""

from collections.abc import Mapping

import numpy as np

from research.data.description import printable, some
from research.errors import UserError


def plain(labels: np.ndarray, what: str) -> tuple[np.ndarray, str]:
    """Return labels in any common form as one number or word for each example.

    Numbers may be bools or whole floats, of shape (N,) or (N, 1), or one-hot rows (N, C).

    Args:
      labels: any array.
      what: name of the array in error messages.

    Returns:
      The labels, int64 or words (N,), and a message about the conversion ('' if there was none).

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
    """Map the sorted labels of train to 0 ... C - 1, in all splits.

    Args:
      splits: labels from `plain` by split, among them 'train'.
      what: name of each split in error messages.
      whole: map the labels that occur in any split; accept any number of them, and data without
        train.

    Returns:
      The class names, which are the labels; the mapped labels by split, int32 (N,); and a message
      about renumbered labels ('' if none was renumbered).

    Raises:
      UserError: labels that train does not have, words in one split and numbers in another, labels
        that look like regression targets, or a label that looks like 'no label'.
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
    """Return whole numbers as int64; refuse other numbers."""
    numbers = labels.astype(np.float64)
    # Larger floats are whole only because their digits end; larger integers do not fit int64.
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
