"""Load any image classification set of TensorFlow Datasets (TFDS), without TensorFlow.

A prepared set is a folder DATA_DIR/NAME/VERSION. The first start decodes its images and keeps the
arrays in a cache file, so that later starts neither decode nor import TFDS. For a streamed set the
cache holds only the labels.
"""

import contextlib
import difflib
import functools
import hashlib
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data import array_cache, images
from research.data.dataset import Arrays, Dataset, Records, fitted_to_memory
from research.errors import UserError

_EMBEDDED = "digits"
_SPLITS = ("train", "validation", "test")  # other splits are not read
_CHUNK = 1024  # records at a time when only labels are read


def load(data: ConfigDict, whole: bool = False, others: Sequence[str] = ()) -> Dataset:
    """Read a set by its TFDS name ('mnist', 'cifar10:3.0.2'); prepare the embedded 'digits'.

    Args:
      data: `config.data`.
      whole: as for `sources.load`.
      others: names of other sources, which the user may have meant.

    Raises:
      UserError: the set is not prepared, has no image or no label among its features, or holds a
        damaged image. The message for a missing set says how to prepare it.
    """
    name, _, version = data.name.partition(":")
    if not re.fullmatch(r"\w+(/[\w.\-]+)?", name):
        raise UserError(f"config.data.name = {data.name!r} is not a name of a data set")
    folder = _find(name, version, _data_dirs(data)) or _prepare(data, name, version, others)
    return _cached(folder, name, data, whole)


def _data_dirs(data: ConfigDict) -> list[Path]:
    """Return the folders to search for prepared sets; for digits also the default folder."""
    default = Path(os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    if not data.data_dir:
        return [default]
    given = Path(data.data_dir).expanduser()
    if not given.is_dir() and data.name != _EMBEDDED:
        raise UserError(f"config.data.data_dir = {data.data_dir!r}: no such folder")
    return [given, default] if data.name == _EMBEDDED else [given]


def _find(name: str, version: str, roots: list[Path]) -> Path | None:
    """Return the folder of the newest prepared version of a set; None if there is none."""
    found = []
    for root in roots:
        for info in (root / name).glob(f"{version or '*'}/dataset_info.json"):
            if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name):  # no remains of a kill
                numbers = tuple(int(number) for number in info.parent.name.split("."))
                found.append((numbers, info.parent))
    return max(found)[1] if found else None


def _prepare(data: ConfigDict, name: str, version: str, others: Sequence[str]) -> Path:
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
        # A download, an unknown name or a missing parser may raise anything.
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UserError(f"config.data.name = {data.name!r}: {reason}") from None
    folder = _find(name, version, roots)
    if folder is None:
        prepared = sorted(
            {info.parent.parent.name for info in roots[0].glob("*/*/dataset_info.json")}
        )
        known = [*prepared, _EMBEDDED, *others]
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


def _cached(folder: Path, name: str, data: ConfigDict, whole: bool) -> Dataset:
    """Read the decoded arrays; decode them first if there is no valid cache."""
    cache = _cache(folder, name, images.options(data))
    path = cache.with_name(f"{cache.name}.npy")
    if path.exists() and path.stat().st_size <= data.memory_mb * 2**20:
        found = array_cache.read(path)
        if found:
            header, arrays = found
            splits = map(Arrays, arrays[::2], arrays[1::2])
            splits = dict(zip(header["splits"], splits, strict=True))
            return Dataset(
                name,
                class_names=tuple(header["class_names"]),
                messages=() if whole else tuple(header["messages"]),
                **splits,
            )
    dataset = fitted_to_memory(
        data.memory_mb, _open(folder, name, images.options(data), cache, whole)
    )
    if isinstance(dataset.train, Arrays) and not whole:
        splits = dataset.splits()
        header = {
            "splits": list(splits),
            "class_names": dataset.class_names,
            "messages": dataset.messages,
        }
        arrays = [array for split in splits.values() for array in (split.inputs, split.labels)]
        array_cache.write(path, header, arrays)
    return dataset


def _cache(folder: Path, name: str, options: dict) -> Path:
    """Return the path of a set's cache; names of cache files begin or end with its name."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    state = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    read = (options["image_size"], options["background"])
    identity = repr((str(folder.resolve()), state, read, 2))
    key = hashlib.sha256(identity.encode()).hexdigest()
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "onestep" / "data"
    return cache / f"{name.replace('/', '-')}-{key[:16]}"


def _open(folder: Path, name: str, options: dict, cache: Path, whole: bool = False) -> Dataset:
    """Return the splits of a prepared set as records; read only the first image of each."""
    import tensorflow_datasets as tfds

    try:
        builder = tfds.builder_from_directory(folder)
    except Exception as error:  # of damaged JSON, missing features and more
        raise UserError(f"{folder}: not a prepared data set ({_brief(error)})") from None
    features = builder.info.features
    keys = _keys(features, name)
    used = {split: split for split in _SPLITS if split in builder.info.splits}
    messages = []
    if "test" not in used and "validation" in used:  # ImageNet's test labels are not public
        used["test"] = used.pop("validation")
        messages.append(f"{name}: its validation split is used as the test split")
    for split in ("train", "test"):
        if split not in used and not (whole and used):
            raise UserError(f"config.data.name = {name!r} has no split {split!r}")
    if "validation" in used and not whole:
        messages.append(f"{name}: its own validation split is used, config.data.validation is not")
    unread = [
        f"{split} ({info.num_examples})"
        for split, info in builder.info.splits.items()
        if split not in used.values()
    ]
    if unread:
        messages.append(f"{name}: splits that are not read: {', '.join(unread)}")
    names = features[keys[1]].names
    if not names:
        names = map(str, range(features[keys[1]].num_classes))
    names = tuple(names)
    splits = {
        split: _records(builder, official, *keys, options, len(names), cache)
        for split, official in used.items()
    }
    splits = {"train": None, "test": None, **splits}
    return Dataset(name, class_names=names, messages=tuple(messages), **splits)


def _keys(features, name: str) -> tuple[str, str]:
    """Return the names of the image and of the label among a set's features."""
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


def _records(
    builder, split, image_key, label_key, options: dict, classes: int, cache: Path
) -> Records:
    import tensorflow_datasets as tfds

    what = f"{builder.info.name} {split}"
    feature = builder.info.features[image_key]
    encoded = type(feature).__name__ == "Image"
    # Decode images here, from raw bytes, so that errors name them.
    decoders = {image_key: tfds.decode.SkipDecoding()} if encoded else None
    try:
        source = builder.as_data_source(split=split, decoders=decoders)
    except NotImplementedError:  # TensorFlow's own format
        raise UserError(
            f"{what} is prepared in {builder.info.file_format}, which needs TensorFlow (allowed: "
            "ArrayRecord; with another config.data.data_dir, config.data.download=true makes it)"
        ) from None
    channels = 1 if feature.shape[-1] == 1 else 3

    def record(number: int) -> dict:
        try:
            return source[number]
        except Exception as error:  # array_record, protobuf and zlib raise many kinds
            raise UserError(f"{what}: its files are damaged ({_brief(error)})") from None

    def read(number: int) -> tuple[np.ndarray, int]:
        example = record(number)
        image = example[image_key]
        if encoded:
            place = f"{what}: image {number}"
            image, _ = images.read_image(bytes(image), place, channels=channels, **options)
        return np.asarray(image), example[label_key]

    @functools.cache
    def labels() -> np.ndarray:
        path = cache.with_name(f"labels-{split}-{cache.name}.npy")
        found = array_cache.read(path)
        if found is None:
            found = {}, [_labels(lambda number: record(number)[label_key], len(source))]
            array_cache.write(path, *found)
        return found[1][0]

    shape, dtype = tuple(feature.shape), np.dtype(np.uint8)
    if encoded:
        first = read(0)[0]
        shape, dtype = first.shape, first.dtype

    def files() -> list[tuple[str, int]]:
        paths = [Path(path) for path in builder.info.splits[split].filepaths]
        return [(path.name, path.stat().st_size) for path in paths]

    return Records(read, np.arange(len(source)), shape, classes, what, labels, dtype, files)


def _labels(label: Callable[[int], int], count: int) -> np.ndarray:
    """Read the labels of all records without decoding images: int32 (N,)."""
    from research.data import stream

    def chunk(number: int) -> np.ndarray:
        rows = range(number * _CHUNK, min((number + 1) * _CHUNK, count))
        return np.array([label(row) for row in rows], np.int32)

    return np.concatenate([*stream.ahead(chunk, -(-count // _CHUNK))])
