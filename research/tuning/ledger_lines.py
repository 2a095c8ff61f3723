"""The lines of a ledger: their fields, and the checks of a line and of its place among others.

{"event": "study", "config": {...}, "trials": 64, "data": {...}, "higher_is_better": false}
{"event": "ask", "count": 1, "trials": [{"number": 0, "values": {...}, ...}]}
{"event": "program", "program": 0, "values": {...}, "facts": {"slots": 64, ...}}
{"event": "report", "trial": 0, "segment": 1, "step": 30, "score": 0.31, ...}
{"event": "end", "trial": 0, "why": "finished"}
{"event": "replace", "trials": [{"number": 64, "values": {...}, "parent": 7, ...}]}
"""

import contextlib
import json
import math
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from research.config import AUTOMATIC
from research.errors import UserError
from research.tuning.reports import metrics_in

TIME = "time"  # the only field that differs when a search is repeated
_NUMBER = (int, float, type(None))
_AMOUNT = (int, float)
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "study": {"config": dict, "trials": int},
    "program": {"program": int, "values": dict, "facts": dict},
    "ask": {"count": int, "trials": list},
    "replace": {"trials": list},
    "report": {
        **dict.fromkeys(("trial", "segment", "step", "slot"), int),
        **dict.fromkeys(("score", "standard_error"), _NUMBER),  # and the metrics
        "epoch": _AMOUNT,
        "finite": bool,
    },
    "end": {"trial": int, "why": str},
}
_FACTS = dict.fromkeys(("slots", "chunk", "parameters"), int)
_LARGEST = 3.4028235e38  # the largest float32; scores are float32
_MOST = 2**40  # exceeds every count and every number of epochs or seconds
_PROPOSED = {"number": int, "values": dict, "share": _AMOUNT, "parent": (int, type(None))}


def read(path: Path) -> list[dict]:
    """Return the complete lines of a ledger.

    Raises:
      UserError: there is no file; or, with its number, a line is damaged or cannot follow the lines
        before it.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    whole = data[: data.rfind(b"\n") + 1].splitlines()
    lines = [_checked(line, f"{path}, line {number}") for number, line in enumerate(whole, start=1)]
    for number, fits in enumerate(_fitting(lines), start=1):
        if not fits:
            raise damaged(f"{path}, line {number}")
    return lines


def config_of(path: Path) -> dict:
    """Return the config in the first line of a ledger; {} if it cannot be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        with open(path, "rb") as file:
            config = json.loads(file.readline())["config"]
        if all(type(config[key]) is type(value) for key, value in AUTOMATIC.items()):
            return config
    return {}


def cut_half_line(path: Path) -> None:
    """Remove an incomplete last line, left by a kill."""
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)


def _checked(data: bytes, where: str) -> dict:
    try:
        return parsed(data)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise damaged(where) from None


def parsed(data: bytes) -> dict:
    """Return a line with the right fields and types; otherwise raise Python's own errors."""
    line = _renamed(json.loads(data))
    event = line["event"]
    _check(line, {**_FIELDS[event], TIME: _AMOUNT})
    for record in line["trials"] if event in ("ask", "replace") else ():
        _check(record, _PROPOSED)
    if event == "program":
        _check(line["facts"], _FACTS)
    if event == "report":
        _check(line, dict.fromkeys(metrics_in(line), _NUMBER))
        line = {name: math.nan if value is None else value for name, value in line.items()}
        if line["epoch"] <= 0 or (line["finite"] and math.isnan(line["score"])):
            raise ValueError(event)
    return line


def _renamed(line: dict) -> dict:
    """Return a line with today's names: a ledger from before may call a segment a piece."""
    if isinstance(line, dict) and "piece" in line:
        line = {"segment" if name == "piece" else name: value for name, value in line.items()}
    return line


def _check(values: dict, fields: dict) -> None:
    """Check types and ranges.

    JSON has null for numbers that are not finite. Only scores and metrics may be negative.
    """
    for name, kinds in fields.items():
        value = values[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise TypeError(name)
        if isinstance(value, float) and not abs(value) <= _LARGEST:
            raise ValueError(name)
        if (isinstance(value, int) or kinds == _AMOUNT) and not 0 <= value < _MOST:
            raise ValueError(name)


def _fitting(lines: Iterable[dict]) -> Iterator[bool]:
    """Yield for each line whether it can follow the lines before it in a search."""
    begun = trials = 0
    objective = None
    programs: set[int] = set()
    done: dict[int, int] = {}  # number of segments of each trial that has not ended
    for line in lines:
        event, trial = line["event"], line.get("trial")
        if event == "study":
            fits = line["trials"] > begun
            begun = line["trials"]
            search = line["config"].get("search")
            objective = search.get("objective") if isinstance(search, dict) else None
        elif event in ("ask", "replace"):
            count = line.get("count", 1)
            fits = bool(begun) and 1 <= len(line["trials"]) <= count
            for number, record in enumerate(line["trials"], start=trials):
                parent = record["parent"]
                asked = parent is None if event == "ask" else parent in done
                fits = fits and asked and record["number"] == number and 0 < record["share"] <= 1
                done[number] = done.get(parent, 0)
            trials += len(line["trials"])
        elif event == "program":
            fits = line["program"] not in programs and line["program"] < trials
            programs.add(line["program"])
        elif event == "report":
            fits = done.get(trial) == line["segment"] - 1 and objective in (None, *metrics_in(line))
            done[trial] = line["segment"]
        else:
            fits = done.pop(trial, None) is not None
        yield fits


def damaged(where: str) -> UserError:
    """Return the error of a damaged line."""
    return UserError(
        f"{where}: damaged; without this line and those after it the search goes on from there"
    )
