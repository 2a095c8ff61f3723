"""Reading .npz files from anywhere: plain arrays only, and none larger than it says."""

import zipfile
from pathlib import Path

import numpy as np


def load(path: Path, limit: int) -> dict[str, np.ndarray]:
    """All arrays of a file, by name.

    Every header is read before any data: a few bytes of zip can claim, and hold, terabytes.

    Args:
      path: the file.
      limit: bytes that all arrays together may take.

    Raises:
      FileNotFoundError: no such file.
      ValueError: not an .npz, damaged, of objects, too large, or sizes that do not agree.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ValueError("not a file")
    try:
        with open(path, "rb") as file, zipfile.ZipFile(file) as archive:
            members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            total = sum(_claimed(archive, info) for info in members.values())
            if total > limit:
                raise ValueError(f"its arrays take {total} bytes (allowed: {limit})")
            return {name: _array(archive, info) for name, info in members.items()}
    except (ValueError, FileNotFoundError):
        raise
    except Exception as error:  # zipfile, zlib and NumPy raise many kinds on damaged files
        raise ValueError(f"{type(error).__name__}: {error}") from None


def _claimed(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> int:
    """The bytes an array takes by its header, which must be those it takes in the zip."""
    with archive.open(info) as file:
        version = np.lib.format.read_magic(file)
        reader = {(1, 0): "read_array_header_1_0", (2, 0): "read_array_header_2_0"}.get(version)
        if reader is None:
            raise ValueError(f"{info.filename}: format {version} of .npy")
        shape, _, dtype = getattr(np.lib.format, reader)(file)
        size, header = dtype.itemsize, file.tell()
    if dtype.hasobject:
        raise ValueError(f"{info.filename} holds objects, not numbers")
    for length in shape:
        size *= length
    if min(shape, default=0) < 0 or header + size != info.file_size:
        raise ValueError(f"{info.filename} says it has shape {shape}, but has not")
    return size


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as file:
        return np.lib.format.read_array(file, allow_pickle=False)
