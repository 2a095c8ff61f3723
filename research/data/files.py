"""A user's own data: an .npz of arrays, or a folder of images by class."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research import npz
from research.data.images import is_colour, read_image
from research.data.sources import Arrays, Dataset, Records, check_arrays, fitted_to_memory
from research.data.splits import train_validation
from research.errors import UserError
from research.platform import physical_memory

_TEST_SHARE = 0.2  # where the user's data have no test split of their own
_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


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
                train, test = _cut_test(both, both.labels, data.split_seed, key)
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


def load_folder(data: ConfigDict) -> Dataset:
    """Images in PATH/train/CLASS/ and PATH/test/CLASS/, or in PATH/CLASS/ alone.

    Without a test folder a fifth of each class becomes the test split, by `data.split_seed`.
    Class names are the folders', sorted. Images of unequal sizes need `data.image_size`.

    Raises:
      UserError: no such folder, no classes, an empty class, an image that cannot be read.
    """
    path = Path(data.path)
    if not path.is_dir():
        raise UserError(f"config.data.path = {str(path)!r}: no such folder")
    if (path / "train").is_dir() and (path / "test").is_dir():
        names = _classes(path / "train")
        extra = sorted(set(_classes(path / "test")) - set(names))
        if extra:
            raise UserError(f"{path / 'test'}: class {extra[0]!r} is not in {path / 'train'}")
        train, _ = _open_classes(path / "train", names, data.image_size)
        # In the colours of train, which the model will be built for.
        test, _ = _open_classes(path / "test", names, data.image_size, train.shape[-1])
    elif (path / "train").is_dir() and any(inner.is_dir() for inner in (path / "train").iterdir()):
        raise UserError(f"{path} has train/ but no test/ (allowed: both, or the classes alone)")
    else:
        names = _classes(path)
        both, labels = _open_classes(path, names, data.image_size)
        train, test = _cut_test(both, labels, data.split_seed, str(path))
    return fitted_to_memory(data, Dataset(path.name, train, test, tuple(names)))


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
    largest = int(labels.max(initial=0))
    if largest > len(labels):
        raise UserError(f"{what}: label {largest} among {len(labels)} examples is out of range")
    arrays = Arrays(inputs, labels.astype(np.int32))
    check_arrays(arrays, largest + 1, what)
    return arrays


def _cut_test(both: Arrays | Records, labels: np.ndarray, seed: int, what: str) -> tuple:
    train, test = train_validation(labels, _TEST_SHARE, seed)
    if not len(test):
        raise UserError(
            f"{what}: too few examples to cut a test split from them (allowed: at least "
            f"{round(1 / _TEST_SHARE)} of some class)"
        )
    return both.subset(train), both.subset(test)


def _classes(path: Path) -> list[str]:
    names = sorted(folder.name for folder in path.iterdir() if folder.is_dir())
    if len(names) < 2:
        raise UserError(f"{path}: {len(names)} class folders (allowed: at least 2)")
    return names


def _open_classes(
    path: Path, names: list[str], image_size: int, channels: int = 0
) -> tuple[Records, np.ndarray]:
    """The images of all class folders, none read but the first, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = [
            file
            for file in (path / name).glob("*")
            if file.suffix.lower() in _SUFFIXES and file.is_file()
        ]
        if not found:
            raise UserError(f"{path / name}: no images (allowed: {', '.join(_SUFFIXES)})")
        files += sorted(found)
        labels += [label] * len(found)
    channels = channels or (3 if any(map(is_colour, files)) else 1)

    def read(number: int) -> tuple[np.ndarray, int]:
        file = files[number]
        return read_image(file, str(file), image_size, channels), labels[number]

    shape = read(0)[0].shape
    return Records(read, np.arange(len(files)), shape, len(names), str(path)), np.array(labels)
