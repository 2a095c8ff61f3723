"""Convert a user's labels to one kind (data/dataset.py), with names of the outputs."""

from collections.abc import Mapping, Sequence

import numpy as np

from research.data.description import printable, some
from research.errors import UserError, listed

_LARGEST = np.float64(np.finfo(np.float32).max)
_REGRESSION = "for numbers set --config.task.name=regression"
_MULTILABEL = "for several labels of an example set --config.task.name=multilabel"


def of_kind(
    kind: str,
    splits: Mapping[str, np.ndarray],
    what: Mapping[str, str],
    names: Sequence[str] | None = None,
    whole: bool = False,
) -> tuple[tuple[str, ...], dict[str, np.ndarray], list[str]]:
    """Convert the labels of all splits to a kind.

    Args:
      kind: 'classes', 'labels' or 'numbers'.
      splits: any arrays by split, among them 'train' unless `whole`.
      what: name of each split's labels in error messages.
      names: of the classes 0 ... C - 1, of the labels, or of the targets; None: numbers, or the
        classes themselves.
      whole: accept data without train, and classes that only other splits have.

    Returns:
      The names of the outputs, the converted labels by split, and messages about conversions.

    Raises:
      UserError: labels that are not of this kind; the line names the array, the example and the
        value.
    """
    if kind == "classes":
        found = {split: plain(labels, what[split]) for split, labels in splits.items()}
        told = list(dict.fromkeys(message for _, message in found.values() if message))
        words = {split: labels for split, (labels, _) in found.items()}
        if names is not None:
            return tuple(names), _placed(words, what, names), told
        class_names, mapped, renumbered = as_classes(words, what, whole)
        return class_names, mapped, [*told, *filter(None, [renumbered])]
    convert = {"labels": _rows_of_labels, "numbers": _targets}[kind]
    converted = {split: convert(labels, what[split]) for split, labels in splits.items()}
    first = next(iter(converted))
    outputs = converted[first].shape[1]
    for split, labels in converted.items():
        if labels.shape[1] != outputs:
            raise UserError(
                f"{what[split]} have {labels.shape[1]} columns, {what[first]} have {outputs}"
            )
    if names is None and kind == "numbers":
        names = ["target"] if outputs == 1 else [f"target_{number}" for number in range(outputs)]
    names = tuple(names or map(str, range(outputs)))
    if len(names) != outputs:
        raise UserError(
            f"{what[first]} have {outputs} columns, and there are {len(names)} names for them: "
            f"{listed(names)}"
        )
    return names, converted, []


def _placed(
    splits: Mapping[str, np.ndarray], what: Mapping[str, str], names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Return words by their place in `names`, and numbers 0 ... C - 1 as they are."""
    place = {name: number for number, name in enumerate(names)}
    placed = {}
    for split, labels in splits.items():
        if labels.dtype.kind == "U":
            values, index = np.unique(labels, return_inverse=True)
            numbers = np.array([place.get(value, -1) for value in values])[index]
        else:
            numbers = np.where(labels < len(names), labels, -1)
        bad = np.flatnonzero(numbers < 0)
        if bad.size:
            raise UserError(
                f"{what[split]}: label {labels[bad[0]]} of example {bad[0]} has no name (allowed: "
                f"0 to {len(names) - 1}, or {some(names, 10)}; {bad.size} such labels)"
            )
        placed[split] = numbers.astype(np.int32)
    return placed


def _rows_of_labels(labels: np.ndarray, what: str) -> np.ndarray:
    """Return rows of 0 and 1 as uint8 (N, L)."""
    if labels.ndim != 2 or labels.dtype.kind not in "buif" or not labels.shape[1]:
        raise UserError(
            f"{what} are {labels.dtype} of shape {labels.shape} (allowed for config.task.name = "
            "'multilabel': numbers (N, L), a 0 or 1 for each label of an example)"
        )
    bad = (labels != 0) & (labels != 1)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{what}: label {column} of example {row} is {labels[row, column]} (allowed: 0 or 1; "
            f"{int(bad.any(1).sum())} such examples)"
        )
    return labels.astype(np.uint8)


def _targets(labels: np.ndarray, what: str) -> np.ndarray:
    """Return finite numbers as float64 (N, K)."""
    if labels.ndim not in (1, 2) or labels.dtype.kind not in "uif" or 0 in labels.shape[1:]:
        raise UserError(
            f"{what} are {labels.dtype} of shape {labels.shape} (allowed for config.task.name = "
            "'regression': numbers (N,) or (N, K))"
        )
    labels = labels[:, None] if labels.ndim == 1 else labels
    bad = ~(np.abs(labels.astype(np.float64)) <= _LARGEST)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise UserError(
            f"{what}: target {column} of example {row} is {labels[row, column]} (allowed: numbers "
            f"of at most {_LARGEST:.2g}; {int(bad.any(1).sum())} such examples)"
        )
    return labels.astype(np.float64)


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
                f"for each example, or one-hot rows; {bad.size} such rows{_hint(labels)})"
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
            "look like targets of a regression, or names of the examples (allowed: classes; "
            f"{_REGRESSION})"
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
    like, hint = ": they look like targets of a regression", f"; {_REGRESSION}"
    raise UserError(
        f"{what} are {labels.dtype}, that of example {bad[0]} is {labels[bad[0]]}"
        f"{like * bool(inside[bad[0]])} (allowed: whole numbers below 2^53, or words; {bad.size} "
        f"such labels{hint * bool(inside[bad[0]])})"
    )


def _hint(labels: np.ndarray) -> str:
    """Return the task that rows (N, L) are for, which are not one-hot."""
    return f"; {_MULTILABEL if ((labels == 0) | (labels == 1)).all() else _REGRESSION}"


def _kind(labels: np.ndarray) -> str:
    first = printable(str(labels[0])) if len(labels) else ""
    return f"{'words' if labels.dtype.kind == 'U' else 'numbers'}, such as {first}"
