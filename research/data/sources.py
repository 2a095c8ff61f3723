"""Load data sets: every source gives the same plain arrays."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data import csv_table, files, identity, offsets, tables, text, toys
from research.data.checks import TASKS, check_arrays, check_kind, check_labels, check_ranges
from research.data.dataset import Arrays, Dataset
from research.data.description import printable
from research.data.splits import cut_test
from research.errors import UserError
from research.names import bind, is_importable, public_functions, resolve

# The kinds of labels that a source can have. Other sources have classes.
_KINDS = {
    "npz": tuple(TASKS),
    "csv": ("classes", "labels", "numbers"),
    "diabetes": ("numbers",),
    "digit_properties": ("labels",),
    "text": ("tokens",),
}
_TOYS, _TABLES = public_functions(toys), public_functions(tables)


def load(
    data: ConfigDict,
    whole: bool = False,
    channels: int = 0,
    kind: str = "classes",
    encoding: dict | None = None,
) -> Dataset:
    """Load and check the data set of `config.data`.

    Inputs keep their integer or float dtype; `in_float32` converts them.

    `data.name` is 'npz', 'csv' or 'folder' (with `data.path`), 'text' (with or without it), a set
    of scikit-learn (research/data/tables.py), a toy set of research/data/toys.py, 'digits', or any
    image classification set of TFDS, such as 'mnist' or 'cifar10:3.0.2'. A dotted name of the
    user's own is a function that returns what `given` takes.

    Args:
      data: `config.data`; `~` in its path is expanded.
      whole: load all labelled data for testing. Cut nothing off, put data without official splits
        into `test`, and accept data without a train split.
      channels: number of channels of the images of a folder; 0: 3 if a training image is coloured,
        else 1.
      kind: of the labels that the task needs: a key of `checks.TASKS`.
      encoding: of the columns of a 'csv', as fitted on the training data of a run; None: fit it.

    Raises:
      UserError: an unknown name, a missing or unprepared set, damaged files, bad labels or inputs.
    """
    own = is_importable(data.name)
    check_kind(data.name, kind, tuple(TASKS) if own else _KINDS.get(data.name, ("classes",)))
    if data.path:
        data = data.copy_and_resolve_references()
        data.path = str(Path(data.path).expanduser())
    elif data.name in ("npz", "csv", "folder"):
        raise UserError(f"config.data.name = {data.name!r} needs config.data.path")
    return checked(_loaded(data, whole, channels, kind, encoding), whole)


def given(data: ConfigDict, found: Dataset | Mapping | tuple, kind: str) -> Dataset:
    """Return data that were passed in from Python, checked, as a data set.

    Args:
      data: `config.data`.
      found: a `Dataset`; arrays by name, as in an .npz file; or (inputs, labels).
      kind: of the labels that the task needs.

    Raises:
      UserError: bad labels or inputs.
    """
    return checked(_as_dataset(data, found, kind, "arrays"))


def checked(dataset: Dataset, whole: bool = False) -> Dataset:
    """Check the splits of a data set, and compute its fingerprint.

    Args:
      dataset: with labels of its kind; inputs of any integer or float dtype.
      whole: accept a single class.

    Raises:
      UserError: labels that are not of the data set's kind, or inputs that cannot be trained on.
    """
    names, splits, what = dataset.class_names, dataset.splits(), printable(dataset.name)
    if dataset.kind == "classes" and len(names) == 1 and not whole:
        raise UserError(
            f"{what}: all examples have one label, {names[0]!r} (allowed: at least 2 classes)"
        )
    for part, split in splits.items():
        check = check_arrays if isinstance(split, Arrays) else check_labels
        check(split, len(names), f"{what} {part}", dataset.kind)
    check_ranges(splits, what)
    known = identity.begun(names, splits, dataset.encoding)
    return dataclasses.replace(dataset, fingerprint=known)


def _loaded(
    data: ConfigDict, whole: bool, channels: int, kind: str, encoding: dict | None
) -> Dataset:
    if data.name in _TOYS:
        return _toy(data, _TOYS[data.name])
    if data.name in _TABLES:
        return _table(data, whole, kind, _TABLES[data.name])
    if data.name == "npz":
        return files.load_npz(data, whole, kind)
    if data.name == "csv":
        return csv_table.load(data, whole, kind, encoding)
    if data.name == "text":
        return text.load(data, whole)
    if data.name == "folder":
        from research.data import folder  # imports Pillow

        return folder.load(data, whole, channels)
    if is_importable(data.name):
        function = resolve("config.data.name", data.name, toys)
        return _as_dataset(data, bind(function, data, {})(), kind, f"{data.name}()", whole)
    from research.data import tfds_source  # imports TFDS, which takes a second

    return tfds_source.load(data, whole, own_names())


def _as_dataset(data: ConfigDict, found, kind: str, what: str, whole: bool = False) -> Dataset:
    """Return what a user's function returned, or passed in, as a data set."""
    if isinstance(found, Dataset):
        if found.kind != kind:
            raise UserError(
                f"{what} is a Dataset of kind {found.kind!r} (allowed, for the task: {kind!r})"
            )
        return found
    if isinstance(found, tuple) and len(found) == 2:
        found = dict(zip(("inputs", "labels"), found, strict=True))
    if not isinstance(found, Mapping):
        raise UserError(
            f"{what} is a {type(found).__name__} (allowed: a Dataset, (inputs, labels), or arrays "
            "by name, such as {'x_train': ..., 'y_train': ...})"
        )
    arrays = {name: np.asarray(array) for name, array in found.items()}
    return files.of_arrays(data, arrays, what, what, whole, kind)


def in_float32(dataset: Dataset, statistics: dict | None = None) -> Dataset:
    """Convert inputs in memory that are not uint8 to float32, as differences to an offset.

    Args:
      dataset: checked by `check_arrays`; inputs of any integer or float dtype.
      statistics: the preprocessing statistics of a checkpoint, whose offset is subtracted from the
        inputs. None: choose an offset if the data need one.

    Returns:
      The data set, with its offset, and a message about the offset and about each loss of digits.
      Targets of a regression are converted likewise.
    """
    if dataset.kind == "numbers":
        dataset = _targets_in_float32(dataset, statistics)
    splits = dataset.splits()
    first = next(iter(splits.values()))  # train, unless data are loaded whole
    if not isinstance(first, Arrays) or all(of.dtype == np.uint8 for of in splits.values()):
        return dataset
    if dataset.kind == "tokens":  # numbers of tokens stay whole
        return dataset
    offset = offsets.of(statistics, first.shape)
    if statistics is None:
        offset = offsets.chosen(first.inputs, *first.extremes)
    converted = {
        name: dataclasses.replace(split, inputs=offsets.subtracted(split.inputs, offset))
        for name, split in splits.items()
    }
    messages = offsets.messages(first.inputs, offset)
    return dataclasses.replace(
        dataset, **converted, offset=offset, messages=(*dataset.messages, *messages)
    )


def _targets_in_float32(dataset: Dataset, statistics: dict | None) -> Dataset:
    """Convert targets to float32, as differences to an offset if float32 would lose digits."""
    splits = dataset.splits()
    labels = next(iter(splits.values())).labels
    offset = offsets.of((statistics or {}).get("targets"), labels.shape[1:])
    if statistics is None:
        offset = offsets.chosen(labels, labels.min(0), labels.max(0))
    converted = {
        name: dataclasses.replace(split, labels=offsets.subtracted(split.labels, offset))
        for name, split in splits.items()
    }
    messages = dataset.messages
    if offset is not None:
        far = ", ".join(f"{value:.10g}" for value in offset[np.flatnonzero(offset)])
        messages = (*messages, f"targets are kept as differences to {far}, which float32 holds")
    return dataclasses.replace(dataset, **converted, target_offset=offset, messages=messages)


def is_prepared(name: str) -> bool:
    """Return whether this value of `config.data.name` names a prepared TFDS data set."""
    return name not in own_names() and not is_importable(name)


def own_names() -> tuple[str, ...]:
    """Return all values of `config.data.name` that name no TFDS data set."""
    return ("npz", "csv", "folder", "text", *_TABLES, *_TOYS)


def name_of(path: Path, kind: str) -> str:
    """Return the `config.data.name` that reads a file or folder for a kind of labels."""
    if path.is_dir():
        return "csv" if csv_table.is_folder(path) else "folder"
    if path.suffix.lower() in csv_table.SUFFIXES:
        return "csv"
    return "text" if kind == "tokens" and path.suffix.lower() != ".npz" else "npz"


def _toy(data: ConfigDict, function: Callable) -> Dataset:
    count = data.toy_examples
    points, labels = function(count + count // 2, data.toy_noise, data.split_seed)
    train = Arrays(points[:count], labels[:count])
    test = Arrays(points[count:], labels[count:])
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Dataset(data.name, train, test, names)


def _table(data: ConfigDict, whole: bool, kind: str, function: Callable) -> Dataset:
    inputs, labels, names = function()
    both = Arrays(inputs, labels)
    cut = (None, both) if whole else cut_test(both, data.split_seed, data.name, kind)
    return Dataset(data.name, *cut, class_names=names, kind=kind)
