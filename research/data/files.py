"""Load a user's own data: an .npz file of arrays."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research import npz
from research.data import labels as labelling
from research.data.checks import check_arrays
from research.data.dataset import Arrays, Dataset
from research.data.description import printable, some
from research.data.splits import cut_test
from research.errors import UserError
from research.platform import physical_memory

# The name of an array has a word for its part, and a word for its split or none, in any order and
# case: x_train, TrainImages, val-y, labels.
_PARTS = {"inputs": "inputs?|x|images?|data|features?", "labels": "labels?|y|targets?"}
_SPLITS = {
    "train": "train(?:ing)?",
    "validation": "val(?:id(?:ation)?)?|dev",
    "test": "test(?:ing)?",
}
_NAMES = ("class_names", "label_names", "target_names")  # arrays that name the outputs
_MOST_TOKENS = 2**24  # in a vocabulary
_FEW = 4  # the largest number of channels that is recognised


def load_npz(data: ConfigDict, whole: bool = False, kind: str = "classes") -> Dataset:
    """Return the data set of an .npz file of named arrays, such as `train_inputs`.

    The name of an array has one word for its part: inputs, x, images, data, features; labels, y,
    target. It may have one word for its split: train; validation, val, valid, dev; test. Order and
    case are free, and other characters may separate the words. Arrays without a split are train.
    If there is no test split, a fifth of the examples becomes one (`splits.cut_test`). An array
    `class_names`, `label_names` or `target_names` names the outputs. All other arrays are ignored,
    and not read.

    Inputs are images (N, H, W) or (N, H, W, C) of bytes, or numbers of any shape (N, ...). The
    shape decides whether images are (N, C, H, W); `data.image_axes` overrides it. Labels are as in
    `labels.of_kind`. Tokens are inputs (N, T) of whole numbers without labels: each token's label
    is the token after it. The label -1 and the tokens behind it are padding.

    Raises:
      UserError: no such file, not an .npz, or arrays that are missing or cannot be used.
    """
    path = Path(data.path)
    key = f"config.data.path = {str(path)!r}"
    try:
        names = npz.names(path)
        used, _ = _chosen(names, key, whole, kind)
        naming = [name for name in names if name in _NAMES]
        wanted = [name for pair in used.values() for name in pair if name] + naming[:1]
        arrays = npz.load(path, physical_memory(), wanted)
    except FileNotFoundError:
        raise UserError(f"{key}: no such file") from None
    except ValueError as error:
        raise UserError(f"{key}: not a readable .npz of plain arrays ({error})") from None
    return of_arrays(data, arrays, key, path.name, whole, kind, names)


def of_arrays(
    data: ConfigDict,
    arrays: Mapping[str, np.ndarray],
    key: str,
    title: str,
    whole: bool = False,
    kind: str = "classes",
    names: Sequence[str] | None = None,
) -> Dataset:
    """Return the data set of named arrays, as `load_npz`.

    Args:
      data: `config.data`.
      arrays: those arrays that are used, by name.
      key: what the arrays come from, in errors.
      title: the name of the data set.
      whole: as for `sources.load`.
      kind: of the labels.
      names: the names of all arrays that there are; None: of `arrays`.
    """
    names = list(arrays) if names is None else names
    used, ignored = _chosen(names, key, whole, kind)
    naming = [name for name in names if name in _NAMES]
    ignored = [name for name in ignored if name not in naming[:1]]
    what = {split: tuple(f"{key}: {printable(name)}" for name in of) for split, of in used.items()}
    outputs = _output_names(arrays[naming[0]], f"{key}: {naming[0]}") if naming else None
    inputs = {split: arrays[name] for split, (name, _) in used.items()}
    labels = {split: arrays[name] for split, (_, name) in used.items() if name}
    if kind == "tokens":
        names, splits, told = _tokens(inputs, labels, what, outputs)
    else:
        inputs, axes = _inputs(inputs, data, what)
        of_labels = {split: name for split, (_, name) in what.items()}
        names, labels, told = labelling.of_kind(kind, labels, of_labels, outputs, whole)
        splits = {split: Arrays(inputs[split], labels[split]) for split in used}
        told = [axes, *told]
    for split, of in splits.items():
        check_arrays(of, len(names), what[split][0], kind)
    if "validation" in splits and not whole:
        told.append(
            f"{printable(used['validation'][0])} is the validation split (config.data.validation = "
            f"{data.validation} is not used)"
        )
    if whole and splits.keys() == {"train"}:
        splits = {"test": splits["train"]}
    if "test" not in splits and not whole:
        both = splits["train"]
        splits["train"], splits["test"] = cut_test(both, data.split_seed, key, kind)
        told.append(
            f"no test split, {len(splits['test'])} of {len(both)} examples are cut off for it"
        )
    if ignored:
        told.append(f"ignored arrays: {some(ignored, 10)}")
    return Dataset(
        title,
        **{"train": None, "test": None, **splits},
        class_names=names,
        messages=tuple(f"{printable(title)}: {line}" for line in told if line),
        ignored=f"{len(ignored)} array{'s' * (len(ignored) > 1)}" if ignored else "",
        kind=kind,
    )


def _output_names(array: np.ndarray, what: str) -> list[str]:
    """Return the names in an array of words.

    Raises:
      UserError: an array of numbers, of another shape, or with a word twice.
    """
    if array.dtype.kind != "U" or array.ndim != 1 or len(set(array.tolist())) < len(array):
        raise UserError(
            f"{what} is {array.dtype} of shape {array.shape} (allowed: different words, one for "
            "each output)"
        )
    return array.tolist()


def _tokens(
    inputs: dict[str, np.ndarray],
    labels: dict[str, np.ndarray],
    what: dict[str, tuple[str, str]],
    names: list[str] | None,
) -> tuple[tuple[str, ...], dict[str, Arrays], list[str]]:
    """Return the names of the tokens, the splits, and messages.

    Without labels, the tokens from the second one on are the labels.

    Raises:
      UserError: arrays that are no whole numbers (N, T), or negative tokens.
    """
    splits = {}
    for split, tokens in inputs.items():
        for name, array in zip(what[split], (tokens, labels.get(split)), strict=True):
            if array is not None and (array.ndim != 2 or array.dtype.kind not in "iu"):
                raise UserError(
                    f"{name} are {array.dtype} of shape {array.shape} (allowed for "
                    "config.task.name = 'next_token': whole numbers (N, T))"
                )
        if split in labels:
            targets = labels[split]
        else:
            if tokens.shape[1] < 2:
                raise UserError(
                    f"{what[split][0]} have shape {tokens.shape} (allowed: at least 2 tokens for "
                    "each example, or labels beside them)"
                )
            tokens, targets = tokens[:, :-1], tokens[:, 1:]
        if tokens.shape != targets.shape:
            raise UserError(
                f"{what[split][1]}: labels have shape {targets.shape} (allowed, as the inputs: "
                f"{tokens.shape})"
            )
        # A padded token may be -1, like its label; the loss does not count it.
        tokens = np.where((tokens == -1) & (targets == -1), 0, tokens)
        splits[split] = Arrays(tokens.astype(np.int64), targets.astype(np.int64))
    first = splits.get("train", next(iter(splits.values())))
    most = max(int(array.max(initial=0)) for array in (first.inputs, first.labels))
    if most >= _MOST_TOKENS:
        raise UserError(
            f"{what[next(iter(splits))][0]} hold the token {most} (allowed: 0 to "
            f"{_MOST_TOKENS - 1}; a model has an output for each of these)"
        )
    names = tuple(names or map(str, range(most + 1)))
    for split, of in splits.items():
        check_arrays(of, len(names), what[split][0], "tokens")
    splits = {
        split: Arrays(of.inputs.astype(np.int32), of.labels.astype(np.int32))
        for split, of in splits.items()
    }
    told = [f"the label of each token is the token after it: {some(inputs)}"]
    return names, splits, told if len(labels) < len(inputs) else []


def _chosen(
    names: list[str], key: str, whole: bool, kind: str
) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Choose arrays by their names.

    Returns:
      The names of the inputs and labels of each split that has both, or of tokens ('' for absent
      labels); and all other names, with a reason for those that name a split.

    Raises:
      UserError: several names for the same array, or no train arrays (if `whole`: no split).
    """
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if place := _place(name):
            found.setdefault(place, []).append(name)
    if not any(split == "train" for split, _ in found):
        found = {(split or "train", part): of for (split, part), of in found.items()}
    used, reasons = {}, {}
    for split in _SPLITS:
        pair = tuple(_only(found.get((split, part), []), part, key) for part in _PARTS)
        if all(pair) or (kind == "tokens" and pair[0]):
            used[split] = pair
        elif any(pair):
            lacking = list(_PARTS)[pair.index("")]
            reasons[pair[0] or pair[1]] = f"{split} without {lacking}"
    told = {name: f"{name} ({reasons[name]})" if name in reasons else name for name in names}
    if not used or ("train" not in used and not whole):
        raise UserError(
            f"{key} holds {printable(', '.join(told.values()), 200) or 'nothing'} (allowed: inputs "
            "and labels, or x and y; with a split: train_inputs, validation_labels, x_test, ...)"
        )
    chosen = {name for pair in used.values() for name in pair}
    return used, [line for name, line in told.items() if name not in chosen]


def inputs_among(names: Sequence[str]) -> list[str]:
    """Return those names that state that an array holds inputs, such as 'x_test'."""
    return [name for name in names if (place := _place(name)) and place[1] == "inputs"]


def _place(name: str) -> tuple[str, str] | None:
    """Return the split and the part that a name states; the split is '' if it states none."""
    for part, words in _PARTS.items():
        for split, before in {"": "", **_SPLITS}.items():
            either = rf"(?:{before})[\W_]*(?:{words})|(?:{words})[\W_]*(?:{before})"
            if re.fullmatch(either, name, re.IGNORECASE):
                return split, part
    return None


def _only(names: list[str], part: str, key: str) -> str:
    """Return the only name; of several the one with 'inputs' or 'labels' in it; '' of none."""
    clear = [name for name in names if part in name.lower()]
    if len(names) > 1 and len(clear) != 1:
        raise UserError(
            f"{key} holds {' and '.join(map(printable, names))}, which may all be the {part} "
            f"(allowed: one of them, or one that is named {part!r})"
        )
    return (clear or names or [""])[0]


def _inputs(
    arrays: dict[str, np.ndarray], data: ConfigDict, what: dict[str, tuple[str, str]]
) -> tuple[dict[str, np.ndarray], str]:
    """Return inputs by split, and a message about how their axes were read.

    Raises:
      UserError: a dtype or shape that cannot be trained on, or shapes that differ.
    """
    first = next(iter(arrays))
    shape = arrays[first].shape[1:]
    for split, array in arrays.items():
        name, _ = what[split]
        if array.dtype.kind not in "buif":
            raise UserError(f"{name} are {array.dtype} (allowed: numbers or bools)")
        if array.ndim < 2 or 0 in array.shape[1:]:
            raise UserError(f"{name}: inputs have shape {array.shape} (allowed: (N, ...))")
        if array.shape[1:] != shape:
            raise UserError(
                f"{what[first][0]}: {first} inputs have shape {shape}, {split} inputs "
                f"{array.shape[1:]}"
            )
    axes, told = data.image_axes, ""
    if axes == "auto":
        axes, told = _axes(shape, arrays[first].dtype)
    elif len(axes) != len(shape) + 1:
        raise UserError(
            f"config.data.image_axes = {axes!r}: {what[first][0]} have {len(shape) + 1} axes "
            f"(allowed: auto, or a word of {len(shape) + 1} letters)"
        )
    return {split: _numbers(_images(array, axes)) for split, array in arrays.items()}, told


def _axes(shape: tuple[int, ...], dtype: np.dtype) -> tuple[str, str]:
    """Infer the axes of inputs from the shape of one: their letters, and a message if unusual.

    Channels come first if the first axis is short and the others are not. They also come first if
    the other two axes are equal and differ from the first.
    """
    if len(shape) == 2 and dtype in (np.uint8, np.bool_):
        return "NHW", ""
    if len(shape) != 3:
        return "", ""
    first, middle, last = shape
    size = " x ".join(map(str, shape))
    if last > _FEW and (first <= _FEW < middle or first != middle == last):
        return "NCHW", (
            f"inputs of {size} are taken for images with their channels first, and transposed "
            "(config.data.image_axes = 'NHWC' leaves them as they are)"
        )
    if first <= _FEW < middle and last <= _FEW:
        return "NHWC", (
            f"inputs of {size} may have their channels first or last, last is assumed "
            "(config.data.image_axes = 'NCHW': first)"
        )
    return "NHWC", ""


def _images(inputs: np.ndarray, axes: str) -> np.ndarray:
    """Return inputs with their channels last."""
    if axes == "NHW":
        return inputs[..., None]
    return np.ascontiguousarray(np.moveaxis(inputs, 1, -1)) if axes == "NCHW" else inputs


def _numbers(inputs: np.ndarray) -> np.ndarray:
    """Return bools as bytes, and other inputs unchanged; `sources.in_float32` converts those."""
    return inputs.astype(np.uint8) if inputs.dtype == np.bool_ else inputs
