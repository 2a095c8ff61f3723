"""Define the types of a data set: splits in memory, splits on disk, and the set of all splits.

Labels have one of four kinds, which the task decides:

* 'classes': int32 (N,), 0 to C - 1.
* 'labels': uint8 (N, L), 1 for each label that an example has, else 0.
* 'numbers': float32 (N, K), K targets in their own unit.
* 'tokens': int32 (N, T), the next token for each input token; -1 is padding. Inputs are int32
  (N, T).
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import numpy as np

from research.data.checks import check_arrays
from research.errors import UserError

UNKNOWN = "\ufffd"  # the name of the token that stands for all unknown characters


@dataclasses.dataclass(frozen=True)
class Arrays:
    """One split in memory: inputs uint8 (N, H, W, C), float32 (N, ...), or tokens int32 (N, T)."""

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
        """Return the same inputs with class i replaced by labels[i].

        `classes` is the new number of classes.
        """
        return dataclasses.replace(self, labels=labels[self.labels])


@dataclasses.dataclass(frozen=True)
class Records:
    """One split on disk: images that are read and decoded on demand. Their labels are classes."""

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
        """Return the number by which error messages name an example."""
        return int(self.indices[row])

    def subset(self, indices: np.ndarray) -> "Records":
        """Return these examples as a split of its own."""
        return dataclasses.replace(self, indices=self.indices[indices])

    def relabelled(self, labels: np.ndarray, classes: int) -> "Records":
        """Return the same images with class i replaced by labels[i].

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
      class_names: names of the outputs: classes by label, labels, targets, or tokens.
      validation: the official validation split; None: `setup.cut` cuts validation from train.
      messages: lines that tell the user how the data were read, such as which files were ignored.
      fingerprint: returns the fingerprint of the official splits as read (data/identity.py).
      ignored: how much was not read, such as '3 files'; '' if everything was read.
      offset: the array subtracted from all inputs, float64, with the shape of one example or of
        its last axis (data/offsets.py). None if nothing was subtracted.
      target_offset: the array subtracted from all targets of a regression, float64 (K,).
      kind: of the labels: 'classes', 'labels', 'numbers' or 'tokens'.
      encoding: how columns of a table become inputs, as plain JSON (data/csv_table.py); None for
        data that are no table.
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
    target_offset: np.ndarray | None = None
    kind: str = "classes"
    encoding: dict | None = None

    def splits(self) -> dict[str, Arrays | Records]:
        """Return the official splits by name: train, test, and validation if there is one."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split for name, split in found.items() if split is not None}


def compact(labels: np.ndarray) -> np.ndarray:
    """Return labels in the dtype of their kind: float32, uint8 (N, L), or int32."""
    if labels.dtype.kind == "f":
        return labels.astype(np.float32, copy=False)
    if labels.ndim == 2 and labels.dtype == np.uint8:
        return labels
    return labels.astype(np.int32, copy=False)


def fitted_to_memory(memory_mb: float, dataset: Dataset) -> Dataset:
    """Return a data set of `Records` as `Arrays` if it fits into so many MiB."""
    splits = dataset.splits()
    if sum(split.nbytes for split in splits.values()) > memory_mb * 2**20:
        return dataset
    loaded = {name: split.load(np.arange(len(split))) for name, split in splits.items()}
    return dataclasses.replace(dataset, **loaded)


def _size(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
