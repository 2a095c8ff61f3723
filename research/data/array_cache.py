"""Keep arrays between starts in files: a line of JSON with a checksum, then the raw arrays."""

import contextlib
import json
import os
import tempfile
import zlib
from pathlib import Path

import numpy as np


def read(path: Path) -> tuple[dict, list[np.ndarray]] | None:
    """Return the header and the arrays of a file; None if the file is missing or damaged."""
    try:
        raw = path.read_bytes()
        end = raw.index(b"\n")
        header = json.loads(raw[:end])
        if zlib.crc32(memoryview(raw)[end + 1 :]) != header["crc32"]:
            return None
        offset, arrays = end + 1, []
        for dtype, shape in header["arrays"]:
            array = np.frombuffer(raw, dtype, int(np.prod(shape)), offset).reshape(shape)
            offset += array.nbytes
            arrays.append(array)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return header, arrays


def write(path: Path, header: dict, arrays: list[np.ndarray]) -> None:
    """Write arrays with a header of JSON values; do nothing if the folder cannot be written."""
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(array, checksum)
    header = {
        **header,
        "arrays": [(array.dtype.str, array.shape) for array in arrays],
        "crc32": checksum,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=path.parent, delete=False)  # noqa: SIM115
    except OSError:
        return  # without a cache the next start decodes again
    try:
        with file, contextlib.suppress(OSError):
            file.write(json.dumps(header).encode() + b"\n")
            for array in arrays:
                file.write(array)
            file.flush()
            os.replace(file.name, path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(file.name)
