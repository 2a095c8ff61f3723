"""Where examples come from: every source gives the same plain arrays."""

import dataclasses
import functools
from collections.abc import Callable

import numpy as np
from ml_collections import ConfigDict

from research.data import offsets
from research.data.splits import train_validation, why_nothing
from research.errors import UserError

_LARGEST = np.float64(np.finfo(np.float32).max)
_TEST_SHARE = 0.2  # where the user's data have no test split of their own


@dataclasses.dataclass(frozen=True)
class Arrays:
    """One split in memory: inputs uint8 (N, H, W, C) or float32 (N, ...), labels int32 (N,)."""

    inputs: np.ndarray
    labels: np.ndarray
    numbers: np.ndarray | None = None  # what examples are called in errors; None: 0, 1, ...

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input."""
        return self.inputs.shape[1:]

    @property
    def dtype(self) -> np.dtype:
        """Of the inputs."""
        return self.inputs.dtype

    @functools.cached_property
    def extremes(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the least and the largest value of each number of an example; NaN where one is."""
        return self.inputs.min(0), self.inputs.max(0)

    def number(self, row: int) -> int:
        """Return what an example is called in errors."""
        return int(row if self.numbers is None else self.numbers[row])

    def subset(self, indices: np.ndarray) -> "Arrays":
        """The examples of these numbers, in this order."""
        numbers = indices if self.numbers is None else self.numbers[indices]
        return Arrays(self.inputs[indices], self.labels[indices], numbers)

    load = subset


@dataclasses.dataclass(frozen=True)
class Records:
    """One split on disk: images that are read and decoded when they are asked for."""

    read: Callable[[int], tuple[np.ndarray, int]]  # number -> image (H, W, C), label
    indices: np.ndarray  # the numbers of this split's examples, int64 (N,)
    shape: tuple[int, ...]  # of every image
    classes: int
    what: str  # names the split in errors
    all_labels: Callable[[], np.ndarray]  # by number, int32: without a look at any image
    dtype: np.dtype = np.dtype(np.uint8)  # of every image: uint8 or float32

    def __len__(self) -> int:
        return len(self.indices)

    @property
    def nbytes(self) -> int:
        """What the images take in memory."""
        return len(self) * int(np.prod(self.shape)) * self.dtype.itemsize

    @property
    def labels(self) -> np.ndarray:
        """Of this split's examples: int32 (N,)."""
        return self.all_labels()[self.indices]

    def subset(self, indices: np.ndarray) -> "Records":
        """As a split of its own."""
        return dataclasses.replace(self, indices=self.indices[indices])

    def load(self, indices: np.ndarray) -> Arrays:
        """Reads the examples of these numbers into memory.

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
      train: the training split.
      test: the test split.
      class_names: by label.
      validation: the official validation split; None: validation is cut from train elsewhere.
      messages: one line for each thing that a user should know about how the data were read, such
        as files that were ignored.
      ignored: what was not read, counted, such as '3 files'; '': nothing.
      offset: what was subtracted from all inputs, float64 of one example's shape or of its last
        axis; None: nothing (data/offsets.py).
    """

    name: str
    train: Arrays | Records
    test: Arrays | Records
    class_names: tuple[str, ...]
    validation: Arrays | Records | None = None
    messages: tuple[str, ...] = ()
    ignored: str = ""
    offset: np.ndarray | None = None

    def splits(self) -> dict[str, Arrays | Records]:
        """Return the official splits by name: train, test, and validation where there is one."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}


def load(data: ConfigDict, statistics: dict | None = None) -> Dataset:
    """Loads the data set of `config.data`, checked, with inputs in uint8 or float32.

    `data.name` is a toy set of research/data/toys.py, 'npz' or 'folder' (with `data.path`),
    'digits', or any image classification set of TFDS, such as 'mnist' or 'cifar10:3.0.2'.

    Args:
      data: the section of the config.
      statistics: those of preprocessing in a checkpoint, whose offset is subtracted from the
        inputs; None chooses one where the data need it.

    Raises:
      UserError: an unknown name, a missing or unprepared set, damaged files, bad labels or inputs.
    """
    # Each source is imported when it is asked for: TFDS alone takes a second.
    from research.data import toys
    from research.names import public_functions

    toy_sets = public_functions(toys)
    if data.name in toy_sets:
        dataset = _toy(data, toy_sets[data.name])
    elif data.name in ("npz", "folder"):
        from research.data import files, folder

        if not data.path:
            raise UserError(f"config.data.name = {data.name!r} needs config.data.path")
        dataset = (files.load_npz if data.name == "npz" else folder.load)(data)
    else:
        from research.data import tfds_source

        dataset = tfds_source.load(data)
    if len(dataset.class_names) < 2:
        raise UserError(
            f"config.data.name = {data.name!r}: all examples have one label, "
            f"{dataset.class_names[0]!r} (allowed: at least 2 classes)"
        )
    for name, split in dataset.splits().items():
        if isinstance(split, Arrays):
            check_arrays(split, len(dataset.class_names), f"{data.name} {name}")
    return in_float32(dataset, statistics)


def in_float32(dataset: Dataset, statistics: dict | None = None) -> Dataset:
    """Convert inputs in memory that are not uint8 to float32, as differences to an offset.

    Args:
      dataset: checked by `check_arrays`; inputs of any integer or float dtype.
      statistics: as in `load`.

    Returns:
      The data set, with its offset, and a message about the offset and about each loss of digits.
    """
    train = dataset.train
    if not isinstance(train, Arrays) or train.dtype == np.uint8:
        return dataset
    offset = offsets.of(statistics, train.shape)
    if statistics is None:
        offset = offsets.chosen(train.inputs, *train.extremes)
    converted = {
        name: dataclasses.replace(split, inputs=offsets.subtracted(split.inputs, offset))
        for name, split in dataset.splits().items()
    }
    messages = offsets.messages(train.inputs, offset)
    return dataclasses.replace(
        dataset, **converted, offset=offset, messages=(*dataset.messages, *messages)
    )


def fitted_to_memory(data: ConfigDict, dataset: Dataset) -> Dataset:
    """A data set of `Records` read into memory, where it fits into `data.memory_mb`."""
    splits = dataset.splits()
    if sum(split.nbytes for split in splits.values()) > data.memory_mb * 2**20:
        return dataset
    loaded = {name: split.load(np.arange(len(split))) for name, split in splits.items()}
    return dataclasses.replace(dataset, **loaded)


def cut_test(both: Arrays | Records, seed: int, what: str) -> tuple:
    """Cut a fifth of each class off for testing, where data have no test split of their own.

    Args:
      both: all examples.
      seed: decides which examples are cut off.
      what: names the data in errors.

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
    """Refuses what would train to nonsense.

    Args:
      arrays: what to check.
      classes: labels are 0 ... classes - 1.
      what: names the arrays in errors.

    Raises:
      UserError: no examples, unequal lengths, labels outside 0 ... classes - 1, or inputs that are
        not finite in float32; the line names the first bad index and its value.
    """
    inputs, labels = arrays.inputs, arrays.labels
    if len(labels) == 0:
        raise UserError(f"{what}: no examples")
    if len(inputs) != len(labels):
        raise UserError(f"{what}: {len(inputs)} inputs but {len(labels)} labels")
    bad = np.flatnonzero((labels < 0) | (labels >= classes))
    if bad.size:
        raise UserError(
            f"{what}: label {labels[bad[0]]} of example {arrays.number(bad[0])} is out of range "
            f"(allowed: 0 to {classes - 1}; {bad.size} such labels)"
        )
    if inputs.dtype.kind == "f":
        low, high = arrays.extremes
        if not (low >= -_LARGEST).all() or not (high <= _LARGEST).all():  # NaN is neither
            bad = ~(np.abs(inputs) <= _LARGEST)
            rows = np.flatnonzero(bad.reshape(len(bad), -1).any(1))
            place = np.unravel_index(bad[rows[0]].argmax(), bad.shape[1:])
            raise UserError(
                f"{what}: example {arrays.number(rows[0])}, feature {feature_name(place)} is "
                f"{inputs[rows[0]][place]}, not finite in float32 (allowed: at most "
                f"{_LARGEST:.2g}; {rows.size} such examples)"
            )


def grey_hint(shape: tuple[int, ...]) -> str:
    """Return what to add to the refusal of inputs of this shape where images are needed."""
    if len(shape) != 2:
        return ""
    return "; config.data.image_axes = 'NHW' reads the inputs of an .npz as grey images"


def feature_name(place: tuple[int, ...]) -> str:
    """Return '3' or '(0, 2, 1)': the place of a number in an example."""
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
