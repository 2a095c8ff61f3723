"""Describe the data in the lines that a start prints: one summary, and one for each gap."""

from collections.abc import Iterable, Mapping

import numpy as np

from research.data.sources import Arrays, Records


def line(
    name: str,
    splits: Mapping[str, Arrays | Records],
    class_names: Iterable[str],
    ignored: str = "",
    offset: np.ndarray | None = None,
) -> str:
    """Return one line with the sizes of the splits, the classes, and the form of an input.

    Args:
      name: name of the data set.
      splits: splits by name; 'train' gives the shape, dtype and range of the inputs. Streamed data
        have no range in the line, because they are not read for it.
      class_names: names by label.
      ignored: how much was not read, such as '3 files'; '' if everything was read.
      offset: the array subtracted from the inputs; None if nothing was subtracted.
    """
    train, class_names = splits["train"], tuple(class_names)
    counts = ", ".join(f"{len(split)} {split_name}" for split_name, split in splits.items())
    shape = " x ".join(map(str, train.shape))
    if isinstance(train, Arrays):
        low, high = train.extremes
        digits = 4
        if offset is not None:
            low, high, digits = low + offset, high + offset, 10
        values = f" from {low.min():.{digits}g} to {high.max():.{digits}g}"
    else:
        values = ", read from disk while training"
    return (
        f"data: {printable(name)}: {counts} examples; {len(class_names)} classes "
        f"({some(class_names)}); {shape} {train.dtype}{values}"
        + (ignored and f"; ignored: {ignored}")
    )


def absent(splits: Mapping[str, Arrays | Records], class_names: tuple[str, ...]) -> list[str]:
    """Return a line for each non-empty split that lacks examples of some classes."""
    lines = []
    for split_name, split in splits.items():
        counts = np.bincount(split.labels, minlength=len(class_names))
        missing = [class_names[label] for label in np.flatnonzero(counts == 0)]
        if missing and len(split):
            lines.append(
                f"{split_name} has no example of {len(missing)} of the {len(class_names)} classes "
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
