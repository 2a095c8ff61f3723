"""Identify a data set by a fingerprint of its examples as loaded, not of their location.

Inputs in memory are read completely, because the fingerprint must detect one changed row. A CRC-32
takes 0.4 seconds a gigabyte on one core, and misses one change in four billion. (Other checksums:
adler32 0.5, sha1 0.8, sha256 0.9 with SHA instructions, blake2b 1.7 seconds.) For examples on disk
only the names and sizes of the files count. The fingerprint then misses an image that is replaced
by another image of the same size.
"""

import functools
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from research.data.dataset import Arrays, Records, compact
from research.errors import LISTED, UserError, listed

SPLITS = ("train", "validation", "test")
# The compared entries of a split, and the words for a difference. Only the first one is reported.
_TOLD = {
    "examples": "{} examples, and had {}",
    "shape": "inputs of shape {}, and had {}",
    "dtype": "{} inputs, and had {}",
    "labels": "other labels",
    "inputs": "other inputs",
    "files": "other files",
    "rows": "other examples of the same files",
}


def of(class_names: Sequence[str], splits: Mapping[str, Arrays | Records]) -> dict[str, Any]:
    """Return the fingerprint of a data set, as plain JSON.

    The fingerprint does not depend on the host, on paths, or on times. For the same data, in memory
    and streamed, all entries agree except 'inputs' and 'files'/'rows', which only one of the two
    has.

    Args:
      class_names: names of the outputs.
      splits: by name.

    Returns:
      {'class_names': [...]} and for each split {'examples', 'shape', 'dtype'} and checksums. The
      checksums are 'labels'; for `Arrays` also 'inputs'; for `Records` also 'files' (names and
      sizes) and 'rows' (the indices of the split's examples).
    """
    return {"class_names": list(class_names)} | {
        name: _of_split(split) for name, split in splits.items()
    }


def begun(
    class_names: Sequence[str],
    splits: Mapping[str, Arrays | Records],
    encoding: dict | None = None,
) -> Callable[[], dict[str, Any]]:
    """Return a function that gives `of` these splits.

    Compute checksums of data in memory now, before they are converted to float32. Compute those of
    data on disk when the function is called.

    Args:
      class_names: names of the outputs.
      splits: by name.
      encoding: of the columns of a table. The fingerprint holds it, so that a checkpoint knows how
        its inputs were made.
    """
    known = {
        name: _of_split(split) if isinstance(split, Arrays) else split
        for name, split in splits.items()
    }

    @functools.cache
    def fingerprint() -> dict[str, Any]:
        on_disk = {name: split for name, split in known.items() if isinstance(split, Records)}
        in_memory = {name: split for name, split in known.items() if name not in on_disk}
        columns = {} if encoding is None else {"encoding": encoding}
        return {**of(class_names, on_disk), **in_memory, **columns}

    return fingerprint


def relabelled(
    fingerprint: dict, class_names: Sequence[str], splits: Mapping[str, Arrays | Records]
) -> dict[str, Any]:
    """Return a fingerprint with other class names and the labels that follow from them."""
    labels = {
        name: {**fingerprint[name], "labels": _labels(split)} for name, split in splits.items()
    }
    return {**fingerprint, **labels, "class_names": list(class_names)}


def _of_split(split: Arrays | Records) -> dict[str, Any]:
    found = {
        "examples": len(split),
        "shape": list(split.shape),
        "dtype": str(split.dtype),
        "labels": _labels(split),
    }
    if isinstance(split, Arrays):
        return found | {"inputs": checksum(split.inputs)}
    files = np.frombuffer(json.dumps(split.files()).encode(), np.uint8)
    return found | {"files": checksum(files), "rows": checksum(split.indices)}


def _labels(split: Arrays | Records) -> str:
    return checksum(compact(split.labels))


def checksum(array: np.ndarray) -> str:
    """Return the CRC-32 of the bytes of an array, as eight hexadecimal digits."""
    array = np.ascontiguousarray(array)
    return f"{zlib.crc32(array.reshape(-1).view(np.uint8)):08x}"


def to_metadata(fingerprint: dict) -> dict[str, Any]:
    """Return a fingerprint as a checkpoint's metadata store it: 'class_names' and 'data'."""
    data = dict(fingerprint)
    return {"class_names": data.pop("class_names"), "data": data}


def of_metadata(metadata: dict) -> dict[str, Any]:
    """Return the fingerprint in a checkpoint's metadata; older metadata hold class names only."""
    names = {key: metadata[key] for key in ("class_names",) if key in metadata}
    return {**metadata.get("data", {}), **names}


def differences(known: Any, found: dict) -> list[str]:
    """Return how the data found differ from the known data, one phrase for each split.

    Compare only entries that both fingerprints hold. Return [] if `known` is no fingerprint, for
    example from an edited file.
    """
    if not isinstance(known, dict):
        return []
    told, names = [], known.get("class_names")
    if isinstance(names, list) and names != found["class_names"]:
        told.append(class_difference(names, found["class_names"]))
    for split in SPLITS:
        before, now = known.get(split), found.get(split)
        if isinstance(before, dict) and isinstance(now, dict):
            told += _first_difference(split, before, now)
    both = known.keys() & found.keys()
    if not told and "encoding" in both and known["encoding"] != found["encoding"]:
        told.append("the columns of the table are other ones, or are encoded otherwise")
    if not told and "cut" in both and known["cut"] != found["cut"]:
        told.append("train and validation are cut otherwise")
    return told


def _first_difference(split: str, before: dict, now: dict) -> list[str]:
    for key, words in _TOLD.items():
        if key in before and key in now and before[key] != now[key]:
            return [f"{split} has {words.format(now[key], before[key])}"]
    return []


def class_difference(known: Sequence[str], found: Sequence[str]) -> str:
    """Return both lists of class names in words; for long lists also the names in only one."""
    known, found = ([str(name) for name in names] for names in (known, found))
    told = f"the classes are {listed(found)}, and were {listed(known)}"
    if max(len(known), len(found)) > LISTED:
        new, gone = ([x for x in a if x not in set(b)] for a, b in ((found, known), (known, found)))
        told += f" (new: {listed(new)}; gone: {listed(gone)})"
    return told


def demand_same(known: Any, found: dict, what: str) -> None:
    """Refuse data that differ from the known data.

    Raises:
      UserError: the data differ; the message says how.
    """
    if told := differences(known, found):
        raise UserError(
            f"{what} holds results of other data: {'; '.join(told)} (allowed: the same data, here "
            "or elsewhere; or another --workdir)"
        )
