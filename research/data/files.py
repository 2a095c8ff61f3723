"""A user's own data: an .npz of arrays."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research import npz
from research.data.sources import Arrays, Dataset, check_arrays, cut_test
from research.errors import UserError
from research.platform import physical_memory


def load_npz(data: ConfigDict) -> Dataset:
    """Arrays `train_inputs`, `train_labels`, `test_inputs`, `test_labels` of an .npz file.

    `x_train`, `y_train`, `x_test`, `y_test` do as well; with only `inputs` and `labels` (or `x` and
    `y`) a fifth of each class becomes the test split, by `data.split_seed`. Inputs are uint8 images
    (N, H, W) or (N, H, W, C), or floats of any shape (N, ...); labels are integers from 0.

    Raises:
      UserError: no such file, not an .npz, missing or unfit arrays.
    """
    path = Path(data.path)
    key = f"config.data.path = {str(path)!r}"
    try:
        arrays = npz.load(path, physical_memory())
    except FileNotFoundError:
        raise UserError(f"{key}: no such file") from None
    except ValueError as error:
        raise UserError(f"{key}: not a readable .npz of plain arrays ({error})") from None
    for names in (
        ("train_inputs", "train_labels", "test_inputs", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ):
        if set(names) <= set(arrays):
            train = _arrays(arrays[names[0]], arrays[names[1]], f"{key}: {names[0]}")
            test = _arrays(arrays[names[2]], arrays[names[3]], f"{key}: {names[2]}")
            extra = np.setdiff1d(test.labels, train.labels)
            if len(extra):
                raise UserError(f"{key}: label {extra[0]} of {names[3]} is not in {names[1]}")
            break
    else:
        for names in (("inputs", "labels"), ("x", "y")):
            if set(names) <= set(arrays):
                both = _arrays(arrays[names[0]], arrays[names[1]], f"{key}: {names[0]}")
                train, test = cut_test(both, data.split_seed, key)
                break
        else:
            raise UserError(
                f"{key} holds {', '.join(sorted(arrays)) or 'nothing'} (allowed: train_inputs, "
                "train_labels, test_inputs, test_labels; x_train, y_train, x_test, y_test; inputs, "
                "labels; or x, y)"
            )
    if train.inputs.shape[1:] != test.inputs.shape[1:]:
        raise UserError(
            f"{key}: train inputs have shape {train.inputs.shape[1:]}, test inputs "
            f"{test.inputs.shape[1:]}"
        )
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    return Dataset("npz", train, test, tuple(map(str, range(classes))))


def _arrays(inputs: np.ndarray, labels: np.ndarray, what: str) -> Arrays:
    if inputs.dtype.kind not in "uif" or labels.dtype.kind not in "ui":
        raise UserError(
            f"{what} are {inputs.dtype}, their labels {labels.dtype} "
            "(allowed: integer or float inputs, integer labels)"
        )
    if labels.ndim != 1:
        raise UserError(f"{what}: labels have shape {labels.shape} (allowed: (N,))")
    if inputs.ndim < 2:
        raise UserError(f"{what}: inputs have shape {inputs.shape} (allowed: (N, ...))")
    if inputs.dtype == np.uint8 and inputs.ndim == 3:
        inputs = inputs[..., None]
    if inputs.dtype != np.uint8:
        inputs = inputs.astype(np.float32)
    largest = int(labels.max(initial=0))
    if largest > len(labels):
        raise UserError(f"{what}: label {largest} among {len(labels)} examples is out of range")
    arrays = Arrays(inputs, labels.astype(np.int32))
    check_arrays(arrays, largest + 1, what)
    return arrays
