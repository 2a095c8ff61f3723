"""Any image classification set of TensorFlow Datasets, without TensorFlow.

A prepared set is a folder DATA_DIR/NAME/VERSION. Its images are decoded once and kept as one array
in a cache file, so that later starts neither decode nor import TFDS.
"""

import contextlib
import difflib
import hashlib
import json
import os
import re
import tempfile
import zlib
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data.sources import Arrays, Dataset, Records, fitted_to_memory
from research.errors import UserError

_EMBEDDED = "digits"


def load(data: ConfigDict) -> Dataset:
    """Reads a set by its TFDS name ('mnist', 'cifar10:3.0.2'); prepares the embedded 'digits'.

    Raises:
      UserError: not prepared (where it was looked for, how to prepare it), no image or no label
        among its features, or a damaged image.
    """
    name, _, version = data.name.partition(":")
    if not re.fullmatch(r"\w+(/[\w.\-]+)?", name):
        raise UserError(f"config.data.name = {data.name!r} is not a name of a data set")
    folder = _find(name, version, _data_dirs(data)) or _prepare(data, name, version)
    return _cached(folder, name, data)


def _data_dirs(data: ConfigDict) -> list[Path]:
    """Where prepared sets may lie; digits, which anyone can write, also in the default place."""
    default = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if not data.data_dir:
        return [default]
    given = Path(data.data_dir).expanduser()
    if not given.is_dir() and data.name != _EMBEDDED:
        raise UserError(f"config.data.data_dir = {data.data_dir!r}: no such folder")
    return [given, default] if data.name == _EMBEDDED else [given]


def _find(name: str, version: str, roots: list[Path]) -> Path | None:
    """The newest prepared version of a set."""
    found = []
    for root in roots:
        for info in (root / name).glob(f"{version or '*'}/dataset_info.json"):
            if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name):  # not what a kill left behind
                numbers = tuple(int(number) for number in info.parent.name.split("."))
                found.append((numbers, info.parent))
    return max(found)[1] if found else None


def _prepare(data: ConfigDict, name: str, version: str) -> Path:
    roots = _data_dirs(data)
    if name == _EMBEDDED:
        from research.data import digits

        root = next((root for root in roots if _writable(root)), None)
        if root is None:
            raise UserError(f"digits: cannot write to {roots[-1]}; set config.data.data_dir")
        with contextlib.suppress(OSError):  # another process was faster: found below
            digits.prepare(str(root))
    elif data.download:
        import tensorflow_datasets as tfds

        try:
            builder = tfds.builder(
                data.name, data_dir=str(roots[0]), file_format="array_record", try_gcs=False
            )
            builder.download_and_prepare()
            return Path(builder.data_dir)
        # Whatever a download, an unknown name or a missing parser raises.
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"config.data.name = {data.name!r}: {reason}") from None
    folder = _find(name, version, roots)
    if folder is None:
        prepared = sorted(
            {info.parent.parent.name for info in roots[0].glob("*/*/dataset_info.json")}
        )
        known = [*prepared, _EMBEDDED, "npz", "folder", "blobs", "moons", "spirals", "rings"]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}? " if close and close[0] != name else ""
        raise UserError(
            f"config.data.name = {data.name!r} is not prepared in {roots[0]} ({hint}there: "
            f"{', '.join(prepared) or 'nothing'}; set config.data.data_dir to where it is, or "
            "config.data.download=true to fetch and prepare it)"
        )
    return folder


def _writable(root: Path) -> bool:
    try:
        root.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(root, os.W_OK)


def _cached(folder: Path, name: str, data: ConfigDict) -> Dataset:
    """Reads the decoded arrays, decoding them first where there is no valid cache."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    state = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    identity = repr((str(folder.resolve()), state, data.image_size, 1))
    key = hashlib.sha256(identity.encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "onestep" / "data"
    path = cache / f"{name.replace('/', '-')}-{key[:16]}.npy"
    if path.exists() and path.stat().st_size <= data.memory_mb * 2**20:
        dataset = _read_cache(path, name)
        if dataset:
            return dataset
    dataset = fitted_to_memory(data, _open(folder, name, data.image_size))
    if isinstance(dataset.train, Arrays):
        _write_cache(path, dataset)
    return dataset


def _read_cache(path: Path, name: str) -> Dataset | None:
    """A cache is a JSON header line, then the four arrays, raw; None where it is not whole."""
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
    train, test = Arrays(*arrays[:2]), Arrays(*arrays[2:])
    return Dataset(name, train, test, tuple(header["class_names"]))


def _write_cache(path: Path, dataset: Dataset) -> None:
    arrays = [
        dataset.train.inputs,
        dataset.train.labels,
        dataset.test.inputs,
        dataset.test.labels,
    ]
    checksum = 0
    for array in arrays:
        checksum = zlib.crc32(array, checksum)
    header = {
        "class_names": dataset.class_names,
        "arrays": [(array.dtype.str, array.shape) for array in arrays],
        "crc32": checksum,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=path.parent, delete=False)  # noqa: SIM115
    except OSError:
        return  # no cache, then: the next start decodes again
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


def _open(folder: Path, name: str, image_size: int) -> Dataset:
    """The splits of a prepared set, nothing read yet."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # of damaged JSON, missing features and more
        raise UserError(f"{folder}: not a prepared data set ({_brief(error)})") from None
    features = builder.info.features
    image_key, label_key = _keys(features, name)
    missing = [split for split in ("train", "test") if split not in builder.info.splits]
    test_split = "test"
    if missing == ["test"] and "validation" in builder.info.splits:
        test_split = "validation"  # ImageNet's test labels are not public
    elif missing:
        raise UserError(f"config.data.name = {name!r} has no split {missing[0]!r}")
    names = features[label_key].names
    if not names:
        names = map(str, range(features[label_key].num_classes))
    names = tuple(names)
    splits = [
        _records(builder, split, image_key, label_key, image_size, len(names))
        for split in ("train", test_split)
    ]
    return Dataset(name, *splits, names)


def _keys(features, name: str) -> tuple[str, str]:
    """The names of the image and of the label among a set's features."""
    kinds = {key: type(feature).__name__ for key, feature in features.items()}
    images = [
        key
        for key, kind in kinds.items()
        if kind == "Image" or (kind == "Tensor" and _holds_images(features[key]))
    ]
    labels = [key for key, kind in kinds.items() if kind == "ClassLabel"]
    labels = ["label"] if "label" in labels else labels
    if len(images) != 1 or len(labels) != 1:
        raise UserError(
            f"config.data.name = {name!r} is not an image classification set: it needs one image "
            f"and one class label, its features are "
            f"{', '.join(f'{key} ({kind})' for key, kind in kinds.items())}"
        )
    return images[0], labels[0]


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _holds_images(feature) -> bool:
    return len(feature.shape) == 3 and feature.np_dtype == np.uint8


def _records(builder, split, image_key, label_key, image_size: int, classes: int) -> Records:
    import tensorflow_datasets as tfds

    from research.data.images import read_image

    what = f"{builder.info.name} {split}"
    feature = builder.info.features[image_key]
    encoded = type(feature).__name__ == "Image"
    # Images are decoded here, from raw bytes: with errors that name them.
    decoders = {image_key: tfds.decode.SkipDecoding()} if encoded else None
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
    except NotImplementedError:  # TensorFlow's own format
        raise UserError(
            f"{what} is prepared in {builder.info.file_format}, which needs TensorFlow (allowed: "
            "ArrayRecord; with another config.data.data_dir, config.data.download=true makes it)"
        ) from None
    channels = feature.shape[-1] or 3

    def read(number: int) -> tuple[np.ndarray, int]:
        try:
            example = source[number]
        except Exception as error:  # array_record, protobuf and zlib raise many kinds
            raise UserError(f"{what}: its files are damaged ({_brief(error)})") from None
        image = example[image_key]
        if encoded:
            image = read_image(bytes(image), f"{what}: image {number}", image_size, channels)
        return np.asarray(image), example[label_key]

    shape = tuple(feature.shape)
    if image_size and encoded:
        shape = (image_size, image_size, channels)
    elif None in shape:
        shape = read(0)[0].shape
    return Records(read, np.arange(len(source)), shape, classes, what)
