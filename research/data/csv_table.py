"""Load tables from .csv files: the splits, their targets, and their encoded columns."""

from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from research.data import csv_encoding, csv_file
from research.data import labels as labelling
from research.data.csv_file import Table
from research.data.dataset import Arrays, Dataset
from research.data.description import printable
from research.data.splits import cut_test
from research.errors import UserError, unknown_name

SUFFIXES = (".csv", ".tsv")
_SPLITS = ("train", "validation", "test")


def load(
    data: ConfigDict, whole: bool = False, kind: str = "classes", encoding: dict | None = None
) -> Dataset:
    """Return the data set of one file, or of train.csv, validation.csv and test.csv in a folder.

    `data.target` names the columns of the labels; by default the last column. Without test.csv a
    fifth of the rows becomes the test split (`splits.cut_test`).

    Args:
      data: `config.data`.
      whole: as for `sources.load`.
      kind: of the labels: 'classes', 'labels' or 'numbers'.
      encoding: of an earlier call, for the data of a trained model; None: fit it on train.

    Raises:
      UserError: files or columns that are missing, cells without a value, or labels that are not
        of this kind.
    """
    if encoding is not None:
        csv_encoding.check(encoding)
    path = Path(data.path)
    tables = {split: csv_file.read(file) for split, file in _files(path, whole).items()}
    first = next(iter(tables.values()))
    targets = list(encoding["targets"]) if encoding else _targets(data, first)
    told = []
    if not data.target and not encoding:
        told.append(f"column {printable(targets[0])} is the target (config.data.target: another)")
    for split in [split for split in tables if split != "train" and not whole]:
        lacking = [name for name in targets if name not in tables[split].columns]
        if lacking:
            table = tables.pop(split)
            told.append(f"{table.where} has no column {lacking[0]!r}, and is not used")
    labels = {split: _labels(table, targets, kind) for split, table in tables.items()}
    if any(of.dtype.kind == "U" for of in labels.values()):  # words in one split: in all
        labels = {split: table.columns[targets[0]] for split, table in tables.items()}
    what = {split: f"{table.where}: column {', '.join(targets)}" for split, table in tables.items()}
    names, labels, converted = labelling.of_kind(
        kind, labels, what, None if kind == "classes" else targets, whole
    )
    # The inputs of these splits are rows of their tables, until the columns are encoded.
    splits = {
        split: Arrays(np.arange(len(table)), labels[split], table.lines)
        for split, table in tables.items()
    }
    if whole and splits.keys() == {"train"}:
        splits, tables = {"test": splits["train"]}, {"test": tables["train"]}
    if "test" not in splits and not whole:
        both, tables["test"] = splits["train"], tables["train"]
        splits["train"], splits["test"] = cut_test(both, data.split_seed, str(path), kind)
        told.append(
            f"no test split, {len(splits['test'])} of {len(both)} examples are cut off for it"
        )
    tables = {split: tables[split].subset(of.inputs) for split, of in splits.items()}
    if encoding is None:
        ignored = _named(data.ignore, "config.data.ignore", first)
        encoding = csv_encoding.fit(tables.get("train", first), targets, ignored, data.missing)
    encoded, notes = {}, []
    for split, table in tables.items():
        inputs, messages = csv_encoding.applied(table, encoding)
        encoded[split] = Arrays(inputs, splits[split].labels, splits[split].numbers)
        notes += [f"{split}: {message}" for message in messages]
    ignored = [name for name in encoding["ignored"] if name in first.columns]
    return Dataset(
        path.name,
        **{"train": None, "test": None, **encoded},
        class_names=names,
        messages=tuple(f"{printable(path.name)}: {line}" for line in (*told, *converted, *notes)),
        ignored=f"{len(ignored)} column{'s' * (len(ignored) > 1)}" if ignored else "",
        kind=kind,
        encoding=encoding,
    )


def encode(path: Path, encoding: dict) -> tuple[np.ndarray, list[str]]:
    """Return the inputs in a file without labels, as the training data of an encoding were read.

    Columns are found by name, in any order.

    Args:
      path: a .csv file; it need not have the target columns.
      encoding: `Dataset.encoding` of the training data.

    Returns:
      The inputs, float64 (N, D), and messages about cells and columns that were not used.

    Raises:
      UserError: a column that is missing, a word in a column of numbers, or a missing value that
        the encoding refuses.
    """
    csv_encoding.check(encoding)
    return csv_encoding.applied(csv_file.read(path), encoding)


def is_folder(path: Path) -> bool:
    """Return whether a folder holds a table, not images."""
    return any((path / f"{split}.csv").is_file() for split in _SPLITS)


def _files(path: Path, whole: bool) -> dict[str, Path]:
    """Return the files of the splits; a single file is train."""
    if not path.is_dir():
        return {"train": path}
    found = {split: path / f"{split}.csv" for split in _SPLITS}
    found = {split: file for split, file in found.items() if file.is_file()}
    if not found or ("train" not in found and not whole):
        raise UserError(
            f"config.data.path = {str(path)!r} holds no train.csv (allowed: a .csv file, or a "
            "folder with train.csv, and validation.csv and test.csv beside it)"
        )
    return found


def _targets(data: ConfigDict, table: Table) -> list[str]:
    """Return the names of the target columns: `data.target`, or the last column."""
    return _named(data.target, "config.data.target", table) or [list(table.columns)[-1]]


def _named(text: str, key: str, table: Table) -> list[str]:
    """Return the columns in a list of names with commas between them."""
    names = [text] if text in table.columns else [name.strip() for name in text.split(",")]
    names = [name for name in names if name]
    for name in names:
        if name not in table.columns:
            raise unknown_name(f"{table.where}: {key}", name, table.columns)
    return names


def _labels(table: Table, targets: list[str], kind: str) -> np.ndarray:
    """Return the cells of the target columns: (N,) for classes, else numbers (N, K).

    Raises:
      UserError: cells without a value, words where numbers are needed, or several columns of
        classes.
    """
    if kind == "classes" and len(targets) > 1:
        raise UserError(
            f"config.data.target = {', '.join(targets)!r} names {len(targets)} columns (allowed "
            "for config.task.name = 'classification': one; several with --config.task.name="
            "multilabel or regression)"
        )
    columns = []
    for name in targets:
        if name not in table.columns:
            raise UserError(
                f"{table.where} has no column {name!r} of labels (its columns: {table.header})"
            )
        if kind == "labels":
            table = _without_bools(table, name)
        numbers, missing = table.parsed(name)
        if kind == "classes":  # a class may be called 'none'
            missing = table.columns[name] == ""
        if missing.any():
            raise UserError(
                f"{table.cell(name, missing.argmax())}: no label (allowed: a label for each "
                f"example; {missing.sum()} such cells)"
            )
        if kind == "classes":
            return table.columns[name] if np.isnan(numbers).any() else numbers
        csv_encoding.check_numbers(table, name, np.isnan(numbers))
        columns.append(numbers)
    return np.stack(columns, axis=1)


def _without_bools(table: Table, name: str) -> Table:
    """Return the table with True and False in a column replaced by 1 and 0."""
    lower = np.char.lower(table.columns[name])
    cells = np.where(lower == "true", "1", np.where(lower == "false", "0", table.columns[name]))
    return Table(table.where, {**table.columns, name: cells}, table.lines)
