"""Load a user's own data: a folder of images by class."""

import dataclasses
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data import images
from research.data.dataset import Dataset, Records, fitted_to_memory
from research.data.splits import cut_test
from research.data.tree import NO_IMAGE, SUFFIXES, Tree
from research.errors import UserError

_EXAMPLES = 3  # named in a message


def load(data: ConfigDict, whole: bool = False, channels: int = 0) -> Dataset:
    """Read images in PATH/train/CLASS/ and PATH/test/CLASS/, or only in PATH/CLASS/.

    Split folders may have other names, such as Training/ and TEST/. PATH/val/CLASS/ beside them is
    the validation split. Without split folders a fifth of each class becomes the test split, drawn
    by `data.split_seed`. Class names are the names of the class folders, sorted. Images in
    subfolders of a class belong to that class. A file without a known suffix is an image if its
    content is one. Images of unequal sizes need `data.image_size`.

    Args:
      data: `config.data`.
      whole: as for `sources.load`: accept any split and any number of classes; cut no test split.
      channels: number of channels of all images; 0: 3 if a training image is coloured, else 1.

    Returns:
      The data set. Its inputs are uint8, or float32 if images have more than 8 bits a channel. Its
      messages count the files that are not read.

    Raises:
      UserError: no such folder, no classes, an empty class, an image that cannot be read, or
        images of unequal depths.
    """
    path = Path(data.path)
    if not path.is_dir():
        raise UserError(f"config.data.path = {str(path)!r}: no such folder")
    tree = Tree(path)
    folders = tree.split_folders(whole)
    if whole:
        names = sorted({name for folder in folders.values() for name in tree.classes(folder, 1)})
    else:
        names = tree.classes(folders["train"])
    files, labels, parts, messages = [], [], {}, []
    for split, folder in folders.items():
        if split != "train" and not whole:
            tree.check_known(folder, folders["train"], names)
        start, absent = len(files), []
        for label, name in enumerate(names):
            found = tree.images(folder / name)
            if not found:
                absent.append(folder / name)
            files += found
            labels += [label] * len(found)
        if len(absent) == len(names) or (absent and split == "train" and not whole):
            others = [file for file in tree.unread[NO_IMAGE] if absent[0] in file.parents]
            there = f"; there are {_few(others, absent[0])}" if others else ""
            raise UserError(f"{absent[0]}: no images (allowed: {', '.join(SUFFIXES)}{there})")
        messages += _counted(f"classes without images in {folder.name}/", absent, folder)
        parts[split] = np.arange(start, len(files))
    options = {**images.options(data), "channels": channels}
    first = parts[next(iter(parts))]
    reader = _Reader(path, files, np.array(labels, np.int32), first, options)
    splits = {
        split: reader.records(numbers, len(names), str(folders[split]))
        for split, numbers in parts.items()
    }
    if folders == {"train": path} and whole:
        splits = {"test": splits["train"]}
    if "test" not in splits and not whole:
        splits["train"], splits["test"] = cut_test(splits["train"], data.split_seed, str(path))
    dataset = fitted_to_memory(
        data.memory_mb,
        Dataset(path.name, class_names=tuple(names), **{"train": None, "test": None, **splits}),
    )
    if any(isinstance(split, Records) for split in dataset.splits().values()):
        reader.look()
    if "validation" in splits and not whole:
        messages.append(
            f"{folders['validation'].name}/ is the validation split (config.data.validation = "
            f"{data.validation} is not used)"
        )
    where = f"images with transparency, laid on config.data.background = {data.background!r}"
    messages += [
        *_counted("images in subfolders of their class", tree.nested, path),
        *_counted(where, reader.named("transparent"), path),
        *_counted("images with more digits than float32 has", reader.named("rounded"), path),
        *_counted("files of several pictures, the first is read", reader.named("several"), path),
    ]
    unread = [line for item in tree.unread.items() for line in _counted(*item, path)]
    messages += [f"not read: {'; '.join(unread)}"] if unread else []
    count = sum(map(len, tree.unread.values()))
    return dataclasses.replace(
        dataset,
        messages=tuple(f"{path}: {line}" for line in messages),
        ignored=f"{count} {'files or folders' if count > 1 else 'file or folder'}" * bool(count),
    )


class _Reader:
    """Read the images of all splits, and note the properties that a user should know.

    Args:
      root: the folder that holds all files.
      files: the files of all splits, those of train first.
      labels: the label of each file, int32.
      train: numbers of the training images; they decide whether all images are read as grey or RGB.
      options: arguments of `images.read_image`; `channels` = 0: as the training images decide.
    """

    def __init__(
        self, root: Path, files: list[Path], labels: np.ndarray, train: np.ndarray, options: dict
    ):
        headers = (images.read_header(files[number]) for number in train)
        self._options = dict(options)
        if not options["channels"]:
            colour = any(header.colour for header in headers if header)
            self._options["channels"] = 3 if colour else 1
        self._root, self._files, self._labels, self._depth = root, files, labels, None
        self._noted = {what: set() for what in ("transparent", "several", "rounded")}
        self._first, _ = self._read(0)

    def records(self, numbers: np.ndarray, classes: int, what: str) -> Records:
        """Return the files with these numbers as a split."""
        shape, dtype = self._first.shape, self._first.dtype

        def files() -> list[tuple[str, int]]:
            of_split = [self._files[number] for number in numbers]
            return [(str(of.relative_to(self._root)), of.stat().st_size) for of in of_split]

        return Records(
            self._read, numbers, shape, classes, what, lambda: self._labels, dtype, files
        )

    def look(self) -> None:
        """Read the headers of images whose pixels are read later, and note their properties.

        Raises:
          UserError: images of unequal depths.
        """
        for number, file in enumerate(self._files):
            if file.suffix.lower() not in (".jpg", ".jpeg"):  # JPEG has no noted property
                header = images.read_header(file)
                if header:
                    self._note(number, header)

    def named(self, what: str) -> list[Path]:
        """Return the files with a property: 'transparent', 'several' (pictures) or 'rounded'."""
        return [self._files[number] for number in sorted(self._noted[what])]

    def _read(self, number: int) -> tuple[np.ndarray, int]:
        file = self._files[number]
        pixels, header = images.read_image(file, str(file), **self._options)
        self._note(number, header)
        return pixels, self._labels[number]

    def _note(self, number: int, header: images.Header) -> None:
        self._depth = self._depth or header.depth
        if header.depth != self._depth:
            raise UserError(
                f"{self._files[number]} has pixels of {header.depth}, {self._files[0]} of "
                f"{self._depth}: their ranges cannot be compared (allowed: images of one depth)"
            )
        for what, numbers in self._noted.items():
            if getattr(header, what):
                numbers.add(number)


def _counted(what: str, files: list[Path], path: Path) -> list[str]:
    """Return a line with the number of files and some of their names; [] if there are none."""
    return [f"{what}: {len(files)} ({_few(files, path)})"] if files else []


def _few(files: list[Path], path: Path) -> str:
    names = [str(file.relative_to(path)) for file in files[:_EXAMPLES]]
    names = [name if name.isprintable() else ascii(name) for name in names]
    return ", ".join([*names, *["..."] * (len(files) > _EXAMPLES)])
