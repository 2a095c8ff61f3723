"""Describe the data in the lines that a start prints: one summary, and one for each gap."""

from collections.abc import Iterable, Mapping

import numpy as np

from research.data.dataset import Arrays, Records


def line(
    name: str,
    splits: Mapping[str, Arrays | Records],
    class_names: Iterable[str],
    ignored: str = "",
    offset: np.ndarray | None = None,
    kind: str = "classes",
) -> str:
    """Return one line with the sizes of the splits, the labels, and the form of an input.

    Args:
      name: name of the data set.
      splits: splits by name; 'train' gives the shape, dtype and range of the inputs. Streamed data
        have no range in the line, because they are not read for it.
      class_names: names of the outputs.
      ignored: how much was not read, such as '3 files'; '' if everything was read.
      offset: the array subtracted from the inputs; None if nothing was subtracted.
      kind: of the labels.
    """
    train, class_names = splits["train"], tuple(class_names)
    counts = ", ".join(f"{len(split)} {split_name}" for split_name, split in splits.items())
    shape = " x ".join(map(str, train.shape))
    if kind == "tokens":
        shape, values = f"{shape} tokens", ""
    elif isinstance(train, Arrays):
        low, high = train.extremes
        digits = 4
        if offset is not None:
            low, high, digits = low + offset, high + offset, 10
        values = f" {train.dtype} from {low.min():.{digits}g} to {high.max():.{digits}g}"
    else:
        values = f" {train.dtype}, read from disk while training"
    return (
        f"data: {printable(name)}: {counts} examples; {_outputs(train, class_names, kind)}; "
        f"{shape}{values}" + (ignored and f"; ignored: {ignored}")
    )


def _outputs(train: Arrays | Records, names: tuple[str, ...], kind: str) -> str:
    """Return the number of outputs and some names; of targets also their range and mean."""
    if kind == "numbers":
        labels = train.labels.astype(np.float64)
        low, high, mean = labels.min(0), labels.max(0), labels.mean(0)
        ranges = [
            f"{printable(name)} from {low[k]:.4g} to {high[k]:.4g}, mean {mean[k]:.4g}"
            for k, name in enumerate(names[:3])
        ]
        more = "; ..." if len(names) > 3 else ""
        return f"{len(names)} target{'s' * (len(names) > 1)} ({'; '.join(ranges)}{more})"
    shown = map(repr, names) if kind == "tokens" else names  # '\\n' is one of them
    told = f"{len(names)} {kind} ({some(shown)})"
    if kind == "labels":
        return f"{told}, {train.labels.sum() / len(train):.3g} for each example"
    if kind == "tokens":
        return f"vocabulary of {told}, {(train.labels >= 0).sum()} to predict in train"
    return told


def absent(
    splits: Mapping[str, Arrays | Records], class_names: tuple[str, ...], kind: str = "classes"
) -> list[str]:
    """Return a line for each non-empty split that lacks some outputs.

    These are classes or labels without an example, or targets that have one value only. Splits may
    lack tokens.
    """
    lines = []
    for split_name, split in splits.items():
        if kind == "tokens" or not len(split):
            continue
        what = "no example of"
        if kind == "classes":
            seen = np.bincount(split.labels, minlength=len(class_names)) > 0
        elif kind == "labels":
            seen = split.labels.any(0)
        else:
            seen, what = split.labels.min(0) < split.labels.max(0), "only one value of"
        missing = [class_names[output] for output in np.flatnonzero(~seen)]
        if missing:
            plural = {"numbers": "targets"}.get(kind, kind)
            lines.append(
                f"{split_name} has {what} {len(missing)} of the {len(class_names)} {plural} "
                f"({some(missing)})"
            )
    return lines


def some(values: Iterable, most: int = 3) -> str:
    """Return the first few values in words, such as '0, 1, 2, ...', on one line."""
    values = [printable(str(value)) for value in values]
    return ", ".join(values[:most] + ["..."] * (len(values) > most))


def printable(text: str, most: int = 40) -> str:
    """Return a user's text without control characters, shortened to at most `most` characters."""
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."
