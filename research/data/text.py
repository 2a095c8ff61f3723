"""Load a text as tokens: each character is one, and its label is the character after it."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data.dataset import UNKNOWN, Arrays, Dataset
from research.data.description import some
from research.errors import UserError
from research.platform import physical_memory

_TEST_SHARE = 0.1  # the end of the text
_EXPANSION = 24  # bytes of memory for each byte of the file, at most


def load(data: ConfigDict, whole: bool = False) -> Dataset:
    """Return windows of `data.context` characters of the file `data.path`, or of `corpus`.

    The last tenth of the text is the test split. The vocabulary is the sorted characters of the
    rest, and one token more that stands for all other characters.

    Args:
      data: `config.data`.
      whole: put the whole text into the test split; the vocabulary is all of its characters.

    Raises:
      UserError: no such file, not UTF-8, or too short a text.
    """
    name, text = _text(Path(data.path)) if data.path else ("pydoc_data.topics", corpus())
    characters = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    end = len(characters) - (len(characters) if whole else round(_TEST_SHARE * len(characters)))
    parts = {"train": characters[:end], "test": characters[end:]}
    if whole:
        del parts["train"]
    if min(map(len, parts.values())) < 2:
        raise UserError(
            f"{name}: a text of {len(characters)} characters is too short (allowed: at least "
            f"{2 if whole else 2 / _TEST_SHARE:.0f})"
        )
    known = np.setdiff1d(next(iter(parts.values())), [ord(UNKNOWN)])
    vocabulary = (*map(chr, known.tolist()), UNKNOWN)
    splits = {
        split: Arrays(*windows(_tokens(part, known), data.context)) for split, part in parts.items()
    }
    messages = []
    new = ~np.isin(parts["test"], known)
    if new.any():
        found = [chr(code) for code in np.unique(parts["test"][new])]
        messages.append(
            f"{name}: {new.sum()} of {len(new)} characters of test do not occur in train "
            f"({some(found)}), and become the unknown token"
        )
    return Dataset(
        name,
        **{"train": None, **splits},
        class_names=vocabulary,
        messages=tuple(messages),
        kind="tokens",
    )


def corpus() -> str:
    """Return the text that ships with Python: the topics of its `help`, sorted by their names.

    These are 465,000 characters or more, by the version of Python.
    """
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def windows(tokens: np.ndarray, context: int) -> tuple[np.ndarray, np.ndarray]:
    """Cut a text into windows that do not overlap.

    Args:
      tokens: int (n,), n at least 2.
      context: number of tokens in a window, T.

    Returns:
      Inputs and labels, int32 (N, T). The labels are the tokens after the inputs, so that each
      token but the first is a label once. The last window is padded, inputs with 0 and labels with
      -1.
    """
    count = -(-(len(tokens) - 1) // context)
    inputs, labels = np.zeros(count * context, np.int32), np.full(count * context, -1, np.int32)
    inputs[: len(tokens) - 1] = tokens[:-1]
    labels[: len(tokens) - 1] = tokens[1:]
    return inputs.reshape(count, context), labels.reshape(count, context)


def encode(text: str, vocabulary: tuple[str, ...]) -> np.ndarray:
    """Return the tokens of a text by a vocabulary of `load`, int32 (n,)."""
    known = np.array([ord(character) for character in vocabulary[:-1]], np.uint32)
    return _tokens(np.frombuffer(text.encode("utf-32-le"), np.uint32), known)


def _tokens(characters: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the place of each character among the known ones, sorted; of others their number."""
    if not len(known):
        return np.zeros(len(characters), np.int32)
    place = np.searchsorted(known, characters).clip(max=len(known) - 1)
    return np.where(known[place] == characters, place, len(known)).astype(np.int32)


def _text(path: Path) -> tuple[str, str]:
    """Return the name and the text of a file, with its line ends as they are."""
    key = f"config.data.path = {str(path)!r}"
    if not path.is_file():
        raise UserError(f"{key}: no such file")
    if path.stat().st_size * _EXPANSION > physical_memory():
        raise UserError(
            f"{key} has {path.stat().st_size / 2**20:.0f} MiB, too many for the memory of this "
            f"machine (allowed: {physical_memory() / _EXPANSION / 2**20:.0f} MiB)"
        )
    try:
        return path.name, path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{key} is not UTF-8, at byte {error.start} (allowed: UTF-8)") from None
