"""Where examples come from: every source gives the same plain arrays."""

import dataclasses

import numpy as np
from ml_collections import ConfigDict

from research.errors import UserError


@dataclasses.dataclass(frozen=True)
class Arrays:
    """One split: inputs uint8 (N, H, W, C) or float32 (N, ...), labels int32 (N,)."""

    inputs: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The official train and test split of a data set; validation is cut from train elsewhere."""

    name: str
    train: Arrays
    test: Arrays
    class_names: tuple[str, ...]


def load(data: ConfigDict) -> Dataset:
    """Loads the data set of `config.data`, checked.

    `data.name` is a toy set of research/data/toys.py, 'npz' or 'folder' (with `data.path`),
    'digits', or any image classification set of TFDS, such as 'mnist' or 'cifar10:3.0.2'.

    Raises:
      UserError: an unknown name, a missing or unprepared set, damaged files, bad labels or inputs.
    """
    # Each source is imported when it is asked for: TFDS alone takes a second.
    from research.data import toys
    from research.errors import public_functions

    toy_sets = public_functions(toys)
    if data.name in toy_sets:
        dataset = _toy(data, toy_sets[data.name])
    elif data.name in ("npz", "folder"):
        from research.data import files

        if not data.path:
            raise UserError(f"config.data.name = {data.name!r} needs config.data.path")
        dataset = getattr(files, f"load_{data.name}")(data)
    else:
        from research.data import tfds_source

        dataset = tfds_source.load(data)
    for split in ("train", "test"):
        check_arrays(getattr(dataset, split), len(dataset.class_names), f"{data.name} {split}")
    return dataset


def check_arrays(arrays: Arrays, classes: int, what: str) -> None:
    """Refuses what would train to nonsense.

    Raises:
      UserError: no examples, unequal lengths, labels outside 0 ... classes - 1, or inputs that are
        not finite; the line names the first bad index and its value.
    """
    inputs, labels = arrays.inputs, arrays.labels
    if len(labels) == 0:
        raise UserError(f"{what}: no examples")
    if len(inputs) != len(labels):
        raise UserError(f"{what}: {len(inputs)} inputs but {len(labels)} labels")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise UserError(
            f"{what}: label {labels[bad[0]]} of example {bad[0]} is out of range "
            f"(allowed: 0 to {classes - 1}; {bad.size} such labels)"
        )
    if inputs.dtype != np.uint8:
        rows = np.flatnonzero(~np.isfinite(inputs.reshape(len(inputs), -1)).all(1))
        if rows.size:
            raise UserError(
                f"{what}: example {rows[0]} holds numbers that are not finite "
                f"({rows.size} such examples)"
            )


def _toy(data: ConfigDict, function) -> Dataset:
    count = data.toy_examples
    points, labels = function(count + count // 2, data.toy_noise, data.split_seed)
    train = Arrays(points[:count], labels[:count])
    test = Arrays(points[count:], labels[count:])
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Dataset(data.name, train, test, names)
