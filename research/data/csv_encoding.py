"""Encode the columns of a table as features.

A column of numbers is one feature. A column of words is one feature for each of its words (one-hot,
in sorted order). The words, and the medians that stand for missing numbers, are fitted on the
training split. They form the encoding, plain JSON, which encodes any other table in the same way:

    {"columns": [{"name": "age", "median": 28.0},
                 {"name": "colour", "categories": ["blue", "red"]}],
     "targets": ["species"], "ignored": [], "missing": "refuse"}
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from research.data.csv_file import Table
from research.data.description import printable, some
from research.errors import UserError, listed

_FEW = 20  # different values of a column of codes, or of words, at most
_MANY = 1000  # different words of a column, at most


def fit(table: Table, targets: Sequence[str], ignored: Sequence[str], missing: str) -> dict:
    """Return the encoding of all columns of a table but its targets and those to be ignored.

    Args:
      table: the training split.
      targets: names of the columns of labels.
      ignored: names of other columns that are no inputs.
      missing: what to do with cells without a value: 'refuse' or 'median'.

    Raises:
      UserError: no column is left, or one that cannot be encoded.
    """
    columns = [
        _fit_column(table, name)
        for name in table.columns
        if name not in targets and name not in ignored
    ]
    if not columns:
        raise UserError(f"{table.where} has no column of inputs (its columns: {table.header})")
    return {
        "columns": columns,
        "targets": list(targets),
        "ignored": list(ignored),
        "missing": missing,
    }


def check(encoding: Any) -> None:
    """Refuse an encoding that was edited or damaged in its file.

    Raises:
      UserError: not the form that `fit` returns.
    """
    try:
        columns = encoding["columns"]
        lists = [encoding["targets"], encoding["ignored"]]
        lists += [column["categories"] for column in columns if "categories" in column]
        names = [column["name"] for column in columns]
        words = [*names, encoding["missing"], *(word for of in lists for word in of)]
        medians = [column["median"] for column in columns if "categories" not in column]
    except (KeyError, TypeError):
        columns = []
    if not (
        columns
        and all(isinstance(word, str) for word in words)
        and all(isinstance(of, list) for of in lists)
        and all(isinstance(median, (int, float)) for median in medians)
    ):
        raise UserError(
            "the encoding of the columns is damaged (allowed: 'columns', 'targets', 'ignored' and "
            "'missing' as training wrote them)"
        )


def applied(table: Table, encoding: dict) -> tuple[np.ndarray, list[str]]:
    """Encode a table; find its columns by name, in any order.

    Returns:
      The inputs, float64 (N, D), and messages about columns and cells that were not used.

    Raises:
      UserError: a column that is missing, a word in a column of numbers, or a missing value that
        the encoding refuses.
    """
    names = [column["name"] for column in encoding["columns"]]
    lacking = [name for name in names if name not in table.columns]
    if lacking:
        raise UserError(
            f"{table.where} has no column {listed(lacking)} (its columns: {table.header}; the "
            f"encoding needs: {listed(names)})"
        )
    known = {*names, *encoding["targets"], *encoding["ignored"]}
    extra = [name for name in table.columns if name not in known]
    messages = [f"columns that are not used: {some(extra, 10)}"] if extra else []
    features, filled = [], {}
    for column in encoding["columns"]:
        name = column["name"]
        numbers, missing = table.parsed(name)
        if missing.any():
            if encoding["missing"] == "refuse":
                raise UserError(
                    f"{table.cell(name, missing.argmax())}: no value (allowed: a value in each "
                    f"cell, or config.data.missing = 'median'; {missing.sum()} such cells in the "
                    "column)"
                )
            filled[name] = int(missing.sum())
        if "categories" in column:
            encoded, told = _one_hot(table, column, missing)
            messages += told
        else:
            check_numbers(table, name, np.isnan(numbers) & ~missing)
            encoded = np.where(missing, column["median"], numbers)[:, None]
        features.append(encoded)
    if filled:
        cells = ", ".join(f"{count} in {printable(name)}" for name, count in filled.items())
        messages.append(f"missing values: {cells}; numbers become the median of train, words none")
    return np.concatenate(features, axis=1), messages


def _one_hot(table: Table, column: dict, missing: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Return a column for each word, all 0 for other words, and a message about those."""
    cells, words = table.columns[column["name"]], np.array(column["categories"])
    place = np.searchsorted(words, cells).clip(max=len(words) - 1)
    known = words[place] == cells
    encoded = np.zeros((len(cells), len(words)))
    encoded[np.flatnonzero(known), place[known]] = 1
    new = ~known & ~missing
    if not new.any():
        return encoded, []
    return encoded, [
        f"column {printable(column['name'])}: {new.sum()} cells hold words that train does not "
        f"have ({some(np.unique(cells[new]))}), and become zeros"
    ]


def _fit_column(table: Table, name: str) -> dict:
    """Return the encoding of a column: the median of its numbers, or its sorted words.

    Numbers with a few words among them are refused; so are columns of almost as many words as rows.
    """
    numbers, missing = table.parsed(name)
    words = ~missing & np.isnan(numbers)
    known = numbers[~missing & ~words]
    if missing.all():
        raise UserError(
            f"{table.where}: column {name!r} has no value in train (allowed: a value, or the "
            "column's name in config.data.ignore)"
        )
    if not words.any():
        return {"name": name, "median": float(np.median(known))}
    if len(np.unique(known)) > _FEW:
        check_numbers(table, name, words)
    categories = np.unique(table.columns[name][~missing])
    if len(categories) > min(_MANY, max(_FEW, (~missing).sum() // 2)):
        raise UserError(
            f"{table.where}: column {name!r} has {len(categories)} different words in "
            f"{len(table)} rows: they look like texts or names of the examples (allowed: at most "
            "half as many as rows, or the column's name in config.data.ignore)"
        )
    return {"name": name, "categories": categories.tolist()}


def check_numbers(table: Table, name: str, words: np.ndarray) -> None:
    """Refuse the first cell that holds a word, in a column of numbers."""
    if words.any():
        raise UserError(
            f"{table.cell(name, words.argmax())} in a column of numbers (allowed: numbers; "
            f"{words.sum()} such cells)"
        )


def feature_names(encoding: dict) -> list[str]:
    """Return the names of the features: 'age', 'colour=blue', 'colour=red'."""
    names = []
    for column in encoding["columns"]:
        words = column.get("categories")
        names += [column["name"]] if words is None else [f"{column['name']}={w}" for w in words]
    return names
