"""Arrays by name in a .safetensors file (https://github.com/huggingface/safetensors).

It is the length of a JSON header (8 bytes, little-endian), the header, and the bytes of the arrays
one after the other: nothing in it can run, and many tools read it.
"""

import json
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

_NAMES = {
    "bool": "BOOL", "bfloat16": "BF16", "float16": "F16", "float32": "F32", "float64": "F64",
    "int8": "I8", "int16": "I16", "int32": "I32", "int64": "I64",
    "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64",
}  # fmt: skip
_LARGEST_HEADER = 2**30
_DTYPES = {name: dtype for dtype, name in _NAMES.items()}


def written(arrays: dict[str, np.ndarray]) -> Iterator[bytes | np.ndarray]:
    """The content of the file, piece by piece, without copies of contiguous arrays.

    Raises:
      TypeError: an array of a dtype that such files do not hold.
    """
    header, end = {}, 0
    for name, array in arrays.items():
        if array.dtype.name not in _NAMES:
            raise TypeError(f"{name} has dtype {array.dtype} (allowed: {', '.join(_NAMES)})")
        begin, end = end, end + array.nbytes
        dtype = _NAMES[array.dtype.name]
        header[name] = {"dtype": dtype, "shape": array.shape, "data_offsets": (begin, end)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the arrays start at a multiple of 8 bytes
    yield len(text).to_bytes(8, "little") + text
    for array in arrays.values():
        yield np.ascontiguousarray(array).reshape(-1).view(np.uint8)


def read(content: np.ndarray) -> dict[str, np.ndarray]:
    """All arrays, as views into the content.

    Args:
      content: uint8 (n,), the whole file.

    Raises:
      ValueError: not such a file, a damaged one, or one that lies about sizes.
    """
    try:
        length = int.from_bytes(content[:8].tobytes(), "little")
        if length > len(content) - 8:
            raise ValueError(f"a header of {length} bytes of {len(content)}")
        header = json.loads(content[8 : 8 + length].tobytes())
        header.pop("__metadata__", None)
        return {name: _view(content[8 + length :], **entry) for name, entry in header.items()}
    except Exception as error:  # what a header of any JSON may lead to
        raise ValueError(f"no whole .safetensors file ({error})") from None


def is_whole(path: Path) -> bool:
    """Whether a file is as long as its header says, before all of it is read.

    Raises:
      ValueError: it has no such header.
    """
    size = path.stat().st_size
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if length < min(size, _LARGEST_HEADER) else {}
        header.pop("__metadata__", None)
        return size == 8 + length + max((e["data_offsets"][1] for e in header.values()), default=0)
    except OSError:
        raise
    except Exception as error:  # what a header of any JSON may lead to
        raise ValueError(f"no whole .safetensors file ({error})") from None


def _view(data: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    begin, end = data_offsets
    if dtype not in _DTYPES:
        raise ValueError(f"dtype {dtype} (allowed: {', '.join(_DTYPES)})")
    dtype = np.dtype(_DTYPES[dtype])
    size = dtype.itemsize * math.prod(shape)
    if not 0 <= begin <= end <= len(data) or end - begin != size:
        raise ValueError(f"{shape} of {dtype} in bytes {begin} to {end} of {len(data)}")
    return data[begin:end].view(dtype).reshape(shape)
