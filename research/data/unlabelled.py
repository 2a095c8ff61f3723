"""Read inputs without labels, in the form of a run's training inputs."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from research import npz
from research.data import csv_table, files, images
from research.data.tree import Tree, is_image
from research.errors import UserError, listed
from research.platform import physical_memory


class Inputs(NamedTuple):
    """Inputs (N, ...), what each is called, and messages for the user."""

    inputs: np.ndarray
    names: list[str]
    messages: list[str]


def read(
    paths: Sequence[Path],
    data: ConfigDict,
    shape: tuple[int, ...],
    dtype: np.dtype,
    encoding: dict | None,
) -> Inputs:
    """Read inputs from one .npz or .csv file, or from image files and folders of images.

    If the run's images are square, others are resized and cut to their size.

    Args:
      paths: the files and folders.
      data: `config.data` of the run.
      shape: of one input of the run.
      dtype: of the run's inputs.
      encoding: how columns became inputs, if the run was trained on a table.

    Raises:
      UserError: a path that is missing, or holds something else than the run was trained on.
    """
    for path in paths:
        if not path.exists():
            raise UserError(f"{str(path)!r}: no such file or folder")
    suffixes = {path.suffix.lower() for path in paths}
    if suffixes & {".npz", *csv_table.SUFFIXES}:
        if len(paths) > 1:
            raise UserError(f"{listed(list(map(str, paths)))} (allowed: one .npz or .csv file)")
        return _npz(paths[0]) if ".npz" in suffixes else _csv(paths[0], encoding)
    if len(shape) != 3 or shape[2] not in (1, 3):
        raise UserError(
            f"{str(paths[0])!r}: the run was not trained on images, but on inputs of shape {shape} "
            "(allowed: an .npz or .csv file)"
        )
    return _images(paths, data, shape, np.dtype(dtype))


def _npz(path: Path) -> Inputs:
    try:
        names = npz.names(path)
        found = files.inputs_among(names) or (names if len(names) == 1 else [])
        if len(found) != 1:
            raise UserError(
                f"{str(path)!r} holds {listed(names) or 'nothing'} (allowed: one array of inputs, "
                "named such as inputs, x, images, x_test)"
            )
        inputs = npz.load(path, physical_memory(), found)[found[0]]
    except ValueError as error:
        raise UserError(f"{str(path)!r}: not a readable .npz of plain arrays ({error})") from None
    return Inputs(inputs, [str(row) for row in range(len(inputs))], [])


def _csv(path: Path, encoding: dict | None) -> Inputs:
    if encoding is None:
        raise UserError(
            f"{str(path)!r}: the run was not trained on a table, so that its columns have no "
            "meaning (allowed: an .npz file, or images)"
        )
    inputs, messages = csv_table.encode(path, encoding)
    return Inputs(inputs, [str(row) for row in range(len(inputs))], messages)


def _images(
    paths: Sequence[Path], data: ConfigDict, shape: tuple[int, ...], dtype: np.dtype
) -> Inputs:
    height, width, channels = shape
    options = images.options(data) | {"channels": channels}
    options["image_size"] = height if height == width else 0
    found = []
    for path in paths:
        found += Tree(path).images(path) if path.is_dir() else [path]
    if not found:
        raise UserError(f"{listed(list(map(str, paths)))}: no images there")
    inputs = np.empty((len(found), *shape), dtype)
    for row, file in enumerate(found):
        if not is_image(file):
            raise UserError(f"{str(file)!r} is no image (allowed: images, .npz or .csv)")
        pixels, _ = images.read_image(file, str(file), **options)
        if pixels.shape != shape or pixels.dtype != dtype:
            raise UserError(
                f"{str(file)!r} has shape {pixels.shape} of {pixels.dtype} (allowed, as in "
                f"training: {shape} of {dtype})"
            )
        inputs[row] = pixels
    return Inputs(inputs, list(map(str, found)), [])
