"""A user's own data: a folder of images by class."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data.images import is_colour, read_image
from research.data.sources import Dataset, Records, cut_test, fitted_to_memory
from research.errors import UserError

_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")


def load(data: ConfigDict) -> Dataset:
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
        train, test = cut_test(both, labels, data.split_seed, str(path))
    return fitted_to_memory(data, Dataset(path.name, train, test, tuple(names)))


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
