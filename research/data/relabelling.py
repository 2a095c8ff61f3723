"""Give the labels of new data the meaning that the outputs of a trained model have."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence

import numpy as np

from research.data import identity
from research.data.dataset import UNKNOWN, Arrays, Dataset
from research.errors import UserError, listed


def relabelled(dataset: Dataset, class_names: Sequence[str]) -> Dataset:
    """Return a data set whose labels follow other output names.

    Classes and tokens are renumbered by their place in `class_names`. Labels and targets are put in
    that order. Characters that are not in the list become the unknown token, and a message says
    how many.

    Args:
      dataset: as loaded.
      class_names: names of the outputs of a trained model.

    Raises:
      UserError: a class that is not in the list, or labels or targets other than the list's.
    """
    names = tuple(class_names)
    if names == dataset.class_names:
        return dataset
    place = {name: number for number, name in enumerate(names)}
    if dataset.kind == "tokens":
        changed, messages = _retokened(dataset, place)
        return dataclasses.replace(
            dataset,
            class_names=names,
            fingerprint=identity.begun(names, changed),
            messages=(*dataset.messages, *messages),
            **changed,
        )
    _check_names(dataset, names)
    if dataset.kind == "classes":
        labels = np.array([place[name] for name in dataset.class_names], np.int32)
        changed = {
            name: split.relabelled(labels, len(names)) for name, split in dataset.splits().items()
        }
    else:
        order = [dataset.class_names.index(name) for name in names]
        changed = {
            name: dataclasses.replace(split, labels=split.labels[:, order])
            for name, split in dataset.splits().items()
        }
    known = dataset.fingerprint and functools.partial(
        identity.relabelled, dataset.fingerprint(), names, changed
    )
    return dataclasses.replace(dataset, class_names=names, fingerprint=known, **changed)


def _check_names(dataset: Dataset, names: tuple[str, ...]) -> None:
    """Refuse unknown names; of labels and targets also missing ones."""
    what = {"numbers": "targets"}.get(dataset.kind, dataset.kind)
    unknown = [name for name in dataset.class_names if name not in names]
    lacking = [name for name in names if name not in dataset.class_names]
    if unknown:
        told = f"has {what} that the run does not know: {listed(unknown)}"
    elif lacking and dataset.kind != "classes":
        told = f"lacks {what} of the run: {listed(lacking)}"
    else:
        return
    raise UserError(
        f"{dataset.name} {told} (its {what}: {listed(dataset.class_names)}; allowed, the run's: "
        f"{listed(names)})"
    )


def _retokened(dataset: Dataset, place: Mapping[str, int]) -> tuple[dict[str, Arrays], list[str]]:
    """Return splits with tokens numbered by `place`, and a message about unknown tokens.

    Raises:
      UserError: unknown tokens, where no token stands for them.
    """
    unknown = [name for name in dataset.class_names if name not in place and name != UNKNOWN]
    if unknown and UNKNOWN not in place:
        raise UserError(
            f"{dataset.name} has tokens that the run does not know: {listed(unknown)} (allowed, "
            f"the run's: {listed(list(place))})"
        )
    numbers = [place.get(name, place.get(UNKNOWN, 0)) for name in dataset.class_names]
    numbers = np.array([*numbers, -1], np.int32)  # padding: label -1 is the last entry
    splits = dataset.splits()
    changed = {
        name: dataclasses.replace(split, inputs=numbers[split.inputs], labels=numbers[split.labels])
        for name, split in splits.items()
    }
    if not unknown:
        return changed, []
    new = np.array([name in set(unknown) for name in dataset.class_names] + [False])
    count = sum(int(new[split.labels].sum()) for split in splits.values())
    return changed, [f"{dataset.name}: {count} tokens are unknown to the run ({listed(unknown)})"]
