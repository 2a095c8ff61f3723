"""Load data sets: every source gives the same plain arrays."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data import offsets
from research.data.splits import train_validation, why_nothing
from research.errors import UserError, listed

_LARGEST = np.float64(np.finfo(np.float32).max)
_TEST_SHARE = 0.2  # cut off for testing if the user's data have no test split


@dataclasses.dataclass(frozen=True)
class Arrays:
    """One split in memory: inputs uint8 (N, H, W, C) or float32 (N, ...), labels int32 (N,)."""

    inputs: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray | None = None  # row numbers in the user's data, for errors; None: 0, 1, ...

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of one input."""
        return self.inputs.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Return the dtype of the inputs."""
        return self.inputs.dtype

    @functools.cached_property
    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the minimum and maximum of each feature over all examples.

        A feature has NaN if any of its values is NaN.
        """
        return self.inputs.min(0), self.inputs.max(0)

    def number(self, row: int) -> int:
        """Return the number by which error messages name an example."""
        return int(row if self.numbers is None else self.numbers[row])

    def subset(self, indices: np.ndarray) -> "Arrays":
        """Return the examples in these rows, in this order."""
        numbers = indices if self.numbers is None else self.numbers[indices]
        return Arrays(self.inputs[indices], self.labels[indices], numbers)

    load = subset

    def relabelled(self, labels: np.ndarray, classes: int) -> "Arrays":
        """Return the same inputs with label i replaced by labels[i].

        `classes` is the new number of classes.
        """
        return dataclasses.replace(self, labels=labels[self.labels])


@dataclasses.dataclass(frozen=True)
class Records:
    """One split on disk: images that are read and decoded on demand."""

    read: Callable[[int], tuple[np.ndarray, int]]  # number -> image (H, W, C), label
    indices: np.ndarray  # the numbers of this split's examples, int64 (N,)
    shape: tuple[int, ...]  # of every image
    classes: int
    what: str  # name of the split in error messages
    all_labels: Callable[[], np.ndarray]  # by number, int32; reads no image
    dtype: np.dtype = np.dtype(np.uint8)  # of every image: uint8 or float32
    # Names, relative to the data set, and sizes in bytes of the files that `read` reads.
    files: Callable[[], Sequence[tuple[str, int]]] = tuple

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        """Return the size of the images in memory, in bytes."""
        return len(self) * int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def labels(self) -> np.ndarray:
        """Return the labels of this split, int32 (N,)."""
        return self.all_labels()[self.indices]

    def number(self, row: int) -> int:
        """Return what an example is called in errors."""
        return int(self.indices[row])

    def subset(self, indices: np.ndarray) -> "Records":
        """Return these examples as a split of its own."""
        return dataclasses.replace(self, indices=self.indices[indices])

    def relabelled(self, labels: np.ndarray, classes: int) -> "Records":
        """Return the same images with label i replaced by labels[i].

        `classes` is the new number of classes.
        """

        def read(number: int) -> tuple[np.ndarray, int]:
            image, label = self.read(number)
            return image, labels[label]

        def all_labels() -> np.ndarray:
            return labels[self.all_labels()]

        return dataclasses.replace(self, read=read, classes=classes, all_labels=all_labels)

    def load(self, indices: np.ndarray) -> Arrays:
        """Read the examples at these indices into memory.

        Raises:
          UserError: a damaged file, an image of another size or depth, or a label out of range.
        """
        numbers = self.indices[indices]
        inputs = np.empty((len(numbers), *self.shape), self.dtype)
        labels = np.empty(len(numbers), np.int32)
        for row, number in enumerate(numbers):
            image, labels[row] = self.read(int(number))
            if image.shape != self.shape:
                raise UserError(
                    f"{self.what}: images of unequal sizes, {_size(image.shape)} and "
                    f"{_size(self.shape)}: set config.data.image_size"
                )
            if image.dtype != self.dtype:
                raise UserError(
                    f"{self.what}: image {number} is of {image.dtype}, others are of {self.dtype}: "
                    "their ranges cannot be compared (allowed: images of one depth)"
                )
            inputs[row] = image
        arrays = Arrays(inputs, labels, numbers)
        check_arrays(arrays, self.classes, self.what)
        return arrays


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The official splits of a data set.

    Attributes:
      name: of the data set.
      train: the training split; None if data are loaded whole and have no training split.
      test: the test split; None if data are loaded whole and have no test split.
      class_names: by label.
      validation: the official validation split; None: `setup.cut` cuts validation from train.
      messages: lines that tell the user how the data were read, such as which files were ignored.
      fingerprint: returns the fingerprint of the official splits as read (data/identity.py).
      ignored: how much was not read, such as '3 files'; '' if everything was read.
      offset: the array subtracted from all inputs, float64, with the shape of one example or of
        its last axis (data/offsets.py). None if nothing was subtracted.
    """

    name: str
    train: Arrays | Records | None
    test: Arrays | Records | None
    class_names: tuple[str, ...]
    validation: Arrays | Records | None = None
    messages: tuple[str, ...] = ()
    ignored: str = ""
    fingerprint: Callable[[], dict] | None = None
    offset: np.ndarray | None = None

    def splits(self) -> dict[str, Arrays | Records]:
        """Return the official splits by name: train, test, and validation if there is one."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}

    def relabelled(self, class_names: Sequence[str]) -> "Dataset":
        """Return the data set with each label replaced by the place of its class in `class_names`.

        Raises:
          UserError: a class that is not in the list.
        """
        names = tuple(class_names)
        if names == self.class_names:
            return self
        from research.data import identity

        label_of = {name: label for label, name in enumerate(names)}
        unknown = [name for name in self.class_names if name not in label_of]
        if unknown:
            raise UserError(
                f"{self.name} has classes that the run does not know: {listed(unknown)} (its "
                f"classes: {listed(self.class_names)}; allowed, the run's: {listed(names)})"
            )
        labels = np.array([label_of[name] for name in self.class_names], np.int32)
        changed = {
            name: split.relabelled(labels, len(names)) for name, split in self.splits().items()
        }
        known = self.fingerprint and functools.partial(
            identity.relabelled, self.fingerprint(), names, changed
        )
        return dataclasses.replace(self, class_names=names, fingerprint=known, **changed)


def load(
    data: ConfigDict, whole: bool = False, channels: int = 0, kind: str = "classes"
) -> Dataset:
    """Load and check the data set of `config.data`.

    Inputs keep their integer or float dtype; `in_float32` converts them.

    `data.name` is a toy set of research/data/toys.py, 'npz' or 'folder' (with `data.path`),
    'digits', or any image classification set of TFDS, such as 'mnist' or 'cifar10:3.0.2'.

    Args:
      data: `config.data`; `~` in its path is expanded.
      whole: load all labelled data for testing. Cut nothing off, put data without official splits
        into `test`, and accept data without a train split.
      channels: number of channels of the images of a folder; 0: 3 if a training image is coloured,
        else 1.

    Raises:
      UserError: an unknown name, a missing or unprepared set, damaged files, bad labels or inputs.
    """
    # Import only the source that is needed: TFDS alone takes a second.
    from research.data import identity, toys
    from research.names import public_functions

    if data.path:
        data = data.copy_and_resolve_references()
        data.path = str(Path(data.path).expanduser())
    toy_sets = public_functions(toys)
    if data.name in toy_sets:
        dataset = _toy(data, toy_sets[data.name])
    elif data.name in ("npz", "folder"):
        from research.data import files, folder

        if not data.path:
            raise UserError(f"config.data.name = {data.name!r} needs config.data.path")
        if data.name == "npz":
            dataset = files.load_npz(data, whole)
        else:
            dataset = folder.load(data, whole, channels)
    else:
        from research.data import tfds_source

        dataset = tfds_source.load(data, whole)
    if len(dataset.class_names) < 2 and not whole:
        raise UserError(
            f"config.data.name = {data.name!r}: all examples have one label, "
            f"{dataset.class_names[0]!r} (allowed: at least 2 classes)"
        )
    for name, split in dataset.splits().items():
        check = check_arrays if isinstance(split, Arrays) else check_labels
        check(split, len(dataset.class_names), f"{data.name} {name}")
    _check_ranges(dataset)
    known = identity.begun(dataset.class_names, dataset.splits())
    return dataclasses.replace(dataset, fingerprint=known)


def _check_ranges(dataset: Dataset) -> None:
    """Refuse bytes in one split and fractions in another, whose ranges cannot be compared."""
    dtypes = {name: np.dtype(split.dtype) for name, split in dataset.splits().items()}
    kinds = {"f" if dtype.kind == "f" else dtype for dtype in dtypes.values()}
    if np.dtype(np.uint8) in kinds and "f" in kinds:
        told = ", ".join(f"{name} are {dtype}" for name, dtype in dtypes.items())
        raise UserError(
            f"{dataset.name}: inputs of {told}: their ranges cannot be compared (allowed: bytes "
            "from 0 to 255 in all splits, or floats in all)"
        )


def in_float32(dataset: Dataset, statistics: dict | None = None) -> Dataset:
    """Convert inputs in memory that are not uint8 to float32, as differences to an offset.

    Args:
      dataset: checked by `check_arrays`; inputs of any integer or float dtype.
      statistics: the preprocessing statistics of a checkpoint, whose offset is subtracted from the
        inputs. None: choose an offset if the data need one.

    Returns:
      The data set, with its offset, and a message about the offset and about each loss of digits.
    """
    splits = dataset.splits()
    first = next(iter(splits.values()))  # train, unless data are loaded whole
    if not isinstance(first, Arrays) or all(of.dtype == np.uint8 for of in splits.values()):
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


def is_prepared(name: str) -> bool:
    """Return whether this value of `config.data.name` names a prepared TFDS data set."""
    from research.data import toys
    from research.names import public_functions

    return name not in ("npz", "folder", *public_functions(toys))


def fitted_to_memory(data: ConfigDict, dataset: Dataset) -> Dataset:
    """Return a data set of `Records` as `Arrays` if it fits into `data.memory_mb`."""
    splits = dataset.splits()
    if sum(split.nbytes for split in splits.values()) > data.memory_mb * 2**20:
        return dataset
    loaded = {name: split.load(np.arange(len(split))) for name, split in splits.items()}
    return dataclasses.replace(dataset, **loaded)


def cut_test(both: Arrays | Records, seed: int, what: str) -> tuple:
    """Cut off a fifth of each class as the test split of data that have none.

    Args:
      both: all examples.
      seed: decides which examples are cut off.
      what: name of the data in error messages.

    Returns:
      The train and the test split.

    Raises:
      UserError: too few examples for a test split.
    """
    train, test = train_validation(both.labels, _TEST_SHARE, seed)
    if not len(test):
        raise UserError(
            f"{what}: no test split can be cut from these data: "
            f"{why_nothing(both.labels, _TEST_SHARE)}"
        )
    return both.subset(train), both.subset(test)


def check_arrays(arrays: Arrays, classes: int, what: str) -> None:
    """Refuse arrays that cannot be trained on.

    Args:
      arrays: the split to check.
      classes: labels are 0 ... classes - 1.
      what: name of the arrays in error messages.

    Raises:
      UserError: no examples, unequal lengths, labels outside 0 ... classes - 1, or inputs that are
        not finite in float32; the line names the first bad index and its value.
    """
    inputs, labels = arrays.inputs, arrays.labels
    if len(labels) == 0:
        raise UserError(f"{what}: no examples")
    if len(inputs) != len(labels):
        raise UserError(f"{what}: {len(inputs)} inputs but {len(labels)} labels")
    check_labels(arrays, classes, what)
    if inputs.dtype.kind == "f":
        low, high = arrays.extremes
        if not (low >= -_LARGEST).all() or not (high <= _LARGEST).all():  # NaN fails both
            bad = ~(np.abs(inputs) <= _LARGEST)
            rows = np.flatnonzero(bad.reshape(len(bad), -1).any(1))
            place = np.unravel_index(bad[rows[0]].argmax(), bad.shape[1:])
            raise UserError(
                f"{what}: example {arrays.number(rows[0])}, feature {feature_name(place)} is "
                f"{inputs[rows[0]][place]}, not finite in float32 (allowed: at most "
                f"{_LARGEST:.2g}; {rows.size} such examples)"
            )


def check_labels(split: Arrays | Records, classes: int, what: str) -> None:
    """Refuse labels outside 0 ... classes - 1.

    Raises:
      UserError: the line names the first such label and its example.
    """
    labels = split.labels
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise UserError(
            f"{what}: label {labels[bad[0]]} of example {split.number(bad[0])} is out of range "
            f"(allowed: 0 to {classes - 1}; {bad.size} such labels)"
        )


def grey_hint(shape: tuple[int, ...]) -> str:
    """Return a hint for the error that inputs of this shape are no images; '' if none applies."""
    if len(shape) != 2:
        return ""
    return "; config.data.image_axes = 'NHW' reads the inputs of an .npz as grey images"


def feature_name(place: tuple[int, ...]) -> str:
    """Return the index of a feature in an example as text: '3' or '(0, 2, 1)'."""
    return str(int(place[0])) if len(place) == 1 else str(tuple(map(int, place)))


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))


def _toy(data: ConfigDict, function) -> Dataset:
    count = data.toy_examples
    points, labels = function(count + count // 2, data.toy_noise, data.split_seed)
    train = Arrays(points[:count], labels[:count])
    test = Arrays(points[count:], labels[count:])
    names = tuple(str(label) for label in range(int(labels.max()) + 1))
    return Dataset(data.name, train, test, names)
