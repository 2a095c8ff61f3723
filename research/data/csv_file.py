"""Read .csv files: columns of text by name, and the number of each row's line."""

import contextlib
import csv
import dataclasses
import math
import re
from pathlib import Path

import numpy as np

from research.data.description import printable, some
from research.errors import UserError, listed
from research.platform import physical_memory

_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
# Numbers as people write them: 1,234.5, 1 234, 1,5, $7, 12%, infinity.
_LIKE_A_NUMBER = re.compile(
    r"[-+]?(\d{1,3}([,.' \u00a0\u202f]\d{3})+|\d+)([.,]\d+)?|[-+]?inf(inity)?", re.IGNORECASE
)
_UNITS = "%$€£¥ \u00a0"
MISSING = ("", "na", "n/a", "nan", "null", "none", "?")  # cells without a value, in any case
_DELIMITERS = ",;\t"
_EXPANSION = 40  # bytes of memory for a byte of the file, at most, while it is read


@dataclasses.dataclass(frozen=True)
class Table:
    """The cells of a file, as text.

    Attributes:
      where: name of the file in error messages.
      columns: the cells of each column, by its name: words (N,), without spaces around them.
      lines: the line of each row in the file, from 1, int64 (N,).
    """

    where: str
    columns: dict[str, np.ndarray]
    lines: np.ndarray

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def header(self) -> str:
        """Return the names of the columns, for a message."""
        return listed(list(self.columns))

    def subset(self, rows: np.ndarray) -> "Table":
        """Return these rows, in this order."""
        columns = {name: cells[rows] for name, cells in self.columns.items()}
        return Table(self.where, columns, self.lines[rows])

    def cell(self, name: str, row: int) -> str:
        """Return the name of a cell for an error: file, column, line, and content."""
        content = printable(str(self.columns[name][row]))
        return f"{self.where}: column {name!r}, line {self.lines[row]} is {content!r}"

    def parsed(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Return the number in each cell of a column, and which cells have no value.

        A cell that holds no number gives NaN.

        Raises:
          UserError: a number with a thousands separator, a decimal comma or a unit.
        """
        cells = self.columns[name].tolist()
        with contextlib.suppress(ValueError):  # the fast way, where all cells are numbers
            numbers = np.array([*map(float, cells)])
            if np.isfinite(numbers).all() and "_" not in "".join(cells):  # float('1_0') is 10
                return numbers, np.zeros(len(cells), bool)
        known = {word: _number(word) for word in dict.fromkeys(cells)}
        numbers = np.array([known[word] for word in cells], np.float64)
        words = [word for word in known if math.isnan(known[word])]
        written = {word for word in words if _LIKE_A_NUMBER.fullmatch(word.strip(_UNITS))}
        if written:
            bad = np.array([word in written for word in cells])
            raise UserError(
                f"{self.cell(name, bad.argmax())} (allowed: numbers such as 1234.5, without "
                f"separators of thousands, decimal commas or units; {bad.sum()} such cells)"
            )
        gone = {word for word in words if word.lower() in MISSING}
        missing = np.array([word in gone for word in cells]) if gone else np.zeros(len(cells), bool)
        return numbers, missing


def read(path: Path) -> Table:
    """Read a file with a header in its first line; commas, semicolons or tabs separate its cells.

    Raises:
      UserError: no such file, not UTF-8, no header, rows of unequal lengths, or names that are
        missing or stand twice.
    """
    if not path.is_file():
        raise UserError(f"config.data.path = {str(path)!r}: no such file")
    if path.stat().st_size * _EXPANSION > physical_memory():
        raise UserError(
            f"{path} has {path.stat().st_size / 2**20:.0f} MiB, too many to be read as text "
            "(allowed: an .npz of its numbers)"
        )
    lines, rows, reader = [], [], None
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            file.seek(0)
            reader = csv.reader(file, delimiter=_delimiter(first), strict=True)
            for row in reader:
                cells = [cell.strip() for cell in row]
                if any(cells):
                    lines.append(reader.line_num)
                    rows.append(cells)
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({error.reason}; allowed: UTF-8)") from None
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: {error}") from None
    if len(rows) < 2:
        raise UserError(f"{path} has {len(rows)} rows (allowed: a header, and a row an example)")
    header, *rows = rows
    _check_header(path, header)
    for line, row in zip(lines[1:], rows, strict=True):
        if len(row) != len(header):
            raise UserError(
                f"{path}, line {line} has {len(row)} cells (allowed, as the header: {len(header)})"
            )
    columns = zip(header, map(np.array, zip(*rows, strict=True)), strict=True)
    return Table(str(path), dict(columns), np.array(lines[1:]))


def _delimiter(line: str) -> str:
    """Return the delimiter that cuts the header into most cells."""
    return max(_DELIMITERS, key=lambda it: len(next(csv.reader([line], delimiter=it), [])))


def _check_header(path: Path, header: list[str]) -> None:
    if all(_NUMBER.fullmatch(name) for name in header):
        raise UserError(
            f"{path}: the first line holds numbers, {some(header)} (allowed: a header with the "
            "names of the columns)"
        )
    if "" in header:
        raise UserError(
            f"{path}: column {header.index('') + 1} has no name in the first line (allowed: a name "
            "for each column)"
        )
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise UserError(f"{path}: two columns have the name {twice[0]!r} (allowed: different ones)")


def _number(word: str) -> float:
    """Return the number that a word is, else NaN."""
    return float(word) if _NUMBER.fullmatch(word) else math.nan
