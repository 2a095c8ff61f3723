"""Text and JSON files: errors are one line, and a file is replaced in one piece."""

import json
import math
import os
from pathlib import Path
from typing import Any

from research.atomic import read_text, replaced
from research.errors import UserError


def read_jsonl(path: Path) -> list[dict]:
    """Return the JSON objects of a file of lines; [] if there is no file.

    Lines that are not JSON objects are skipped: a killed process may leave half a line.

    Raises:
      UserError: the path is not a file, or it cannot be read.
    """
    records = []
    try:
        lines = read_text(Path(path)).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    for text in lines:
        try:
            record = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            records.append(record)
    return records


def read_json(path: Path) -> dict:
    """Return the JSON object that a file holds.

    Raises:
      UserError: there is no file, or it does not hold a JSON object.
    """
    try:
        value = json.loads(read_text(Path(path)))
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def write_text(path: Path, text: str) -> None:
    """Replace a text file in one piece."""
    with replaced(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, value: dict) -> None:
    """Replace a JSON file in one piece."""
    write_text(path, json.dumps(strict(value), indent=2) + "\n")


def strict(value: Any) -> Any:
    """Return a value that JSON can hold: tuples become lists, NaN and infinity become None."""
    if isinstance(value, dict):
        return {name: strict(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def line(record: dict) -> str:
    """Return a record as one line of a JSON lines file."""
    return json.dumps(strict(record)) + "\n"


def append(file: int, text: str) -> None:
    """Append a text to an open file descriptor, in full or not at all.

    Raises:
      OSError: the text cannot be written; the file is as long as before.
    """
    size, data = os.fstat(file).st_size, text.encode()
    try:
        while data:  # after a partial write, the next write raises the reason
            data = data[os.write(file, data) :]
    except OSError:
        os.ftruncate(file, size)
        raise
