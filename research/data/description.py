"""What a start prints about its data: a line that describes them, and a line for each gap."""

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
    """Return one line with the sizes of the splits, the classes, and what an input looks like.

    Args:
      name: of the data set.
      splits: by name; the shape, dtype and range of the inputs are those of 'train'. Streamed data
        are not read for their range.
      class_names: by label.
      ignored: what was not read, such as '3 files'; '': nothing.
      offset: what was subtracted from the inputs; None: nothing.
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
    """Return a line for each split that has examples, but none of some classes."""
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
    """Return the first few values in words, such as '0, 1, 2, ...'; always one line."""
    values = [printable(str(value)) for value in values]
    return ", ".join(values[:most] + ["..."] * (len(values) > most))


def printable(text: str, most: int = 40) -> str:
    """Return a user's text fit for a line: without control characters, and not too long."""
    text = "".join(character if character.isprintable() else "\ufffd" for character in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."
