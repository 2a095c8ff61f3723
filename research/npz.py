"""Read .npz files from anywhere: only plain arrays, and none larger than its header says."""

import contextlib
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np


def names(path: Path) -> list[str]:
    """Return the names of all members of a file; read no array.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an .npz.
    """
    with _opened(path) as (_, members):
        return list(members)


def load(path: Path, limit: int, wanted: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Return arrays of a file, by name.

    Every header is read before any data: a few bytes of zip can claim, and hold, terabytes.

    Args:
      path: the file.
      limit: bytes that the arrays together may take.
      wanted: returns the names to read, given all names; None: all. Others may be anything.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an .npz, damaged, of objects, too large, or sizes that do not agree.
    """
    with _opened(path) as (archive, members):
        if wanted is not None:
            members = {name: members[name] for name in wanted}
        total = sum(_claimed(archive, info) for info in members.values())
        if total > limit:
            raise ValueError(f"its arrays take {total} bytes (allowed: {limit})")
        return {name: _array(archive, info) for name, info in members.items()}


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]]:
    """Yield the zip, and its members by name; turn every error in it into a ValueError."""
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise ValueError("not a file")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            yield archive, {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds on damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _claimed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """Return the bytes of an array by its header; refuse a header that the zip contradicts."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}.get(version)
        if reader is None:
            raise ValueError(f"{info.filename}: format {version} of .npy")
        shape, _, dtype = getattr(np.lib.format, reader)(file)
        size, header = dtype.itemsize, file.tell()
    if dtype.hasobject:
        raise ValueError(
            f"{info.filename} holds objects, which are not read (allowed: numbers, or words: "
            "array.astype(str))"
        )
    for length in shape:
        size *= length
    if min(shape, default=0) < 0 or header + size != info.file_size:
        raise ValueError(f"{info.filename} says it has shape {shape}, but has not")
    return size


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
