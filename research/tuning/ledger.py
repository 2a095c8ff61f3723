"""The ledger of a search: one JSON object a line, append-only, and the only record of its state.

A search is deterministic except for the proposals of its sampler and the scores of its trials. The
ledger has these, in order, and the decisions that followed. A resumed search repeats everything and
takes proposals and scores from the ledger, so it continues as if it had never stopped.

    {"event": "study", "config": {...}, "trials": 64, "data": {...}}
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
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research import config as configuration
from research.config import AUTOMATIC
from research.data import identity
from research.errors import UserError
from research.strict_json import strict
from research.tuning.config import completed
from research.tuning.trials import metrics_in

_TIME = "time"  # the only field that differs when a search is repeated
# Keys of `config.search` that do not change the lines already written.
_MAY_CHANGE = ("trials", "engine", "workers", "slurm_options")
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


class Ledger:
    """The lines of `ledger.jsonl`, earlier ones and new ones.

    Args:
      path: of the file; an incomplete last line, left by a kill, is removed.
      clock: returns the time in seconds.

    Raises:
      UserError: a damaged line, with its number.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time):
        self._path, self._clock = Path(path), clock
        cut_half_line(self._path)
        self._lines = read(self._path) if self._path.exists() else []
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._next = 0  # index of the next earlier line to be repeated
        self._taken = 0  # number of the last line that was repeated, from 1
        self._pending: list[str] = []
        self.trials = 0  # `config.search.trials` at this point of the search

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_) -> None:
        os.close(self._file)

    @property
    def data(self) -> dict:
        """Return the fingerprint of the data that the search began with; {} if unknown."""
        return self._lines[0].get("data", {}) if self._lines else {}

    def begin(self, config: ConfigDict, data: dict | None = None) -> None:
        """Begin or resume a search; `config.search.trials` may have grown since the last start.

        Args:
          config: of the search.
          data: the fingerprint of its data (`folds.fingerprint`), if it is known.

        Raises:
          UserError: the ledger is that of a search with another config, or on other data.
        """
        ours = json.loads(configuration.to_json(config))
        study = {"config": ours, "trials": config.search.trials, "data": data or self.data}
        begun = [line for line in self._lines if line["event"] == "study"]
        if self._lines:
            self._check_same(
                self._lines[0]["config"], ours, may_have_moved=bool(data and self.data)
            )
            if data:
                origin = f"--workdir = {str(self._path.parent)!r}"
                identity.demand_same(self.data, data, origin)
            if begun[-1]["trials"] > config.search.trials:
                raise UserError(
                    f"config.search.trials = {config.search.trials}: this search is one of "
                    f"{begun[-1]['trials']} already (allowed: as many, or more)"
                )
        if not begun or begun[-1]["trials"] != config.search.trials:
            self._write("study", study)
            self._lines.append({"event": "study", **study})
        self._read_total()

    def _check_same(self, theirs: dict, ours: dict, may_have_moved: bool) -> None:
        try:
            theirs = ConfigDict(completed(theirs))
            changed = configuration.differences(theirs, ConfigDict(ours))
        except (AttributeError, TypeError, ValueError):  # keys that no config has
            raise _damaged(f"{self._path}, line 1") from None
        for key in _MAY_CHANGE:
            changed.pop(f"search.{key}", None)
        for key in configuration.LOCATIONS if may_have_moved else ():
            changed.pop(key, None)
        if changed:
            keys = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in changed.items())
            raise UserError(
                f"--workdir = {str(self._path.parent)!r} holds a search of another config "
                f"({keys}); choose another --workdir, or take these back"
            )

    @property
    def replaying(self) -> bool:
        """Return whether earlier lines are left to be repeated."""
        return self._next < len(self._lines)

    @property
    def place(self) -> str:
        """Return the file and the number of the line that was repeated last."""
        return f"{self._path}, line {self._taken}"

    def check_over(self) -> None:
        """Check, at the end of a search, that it repeated all lines.

        Raises:
          UserError: lines are left.
        """
        if self.replaying:
            raise self._foreign("nothing more")

    def take(self, event: str, **fields: Any) -> dict | None:
        """Return the next earlier line if it has this event and these fields; else None."""
        if not self.replaying or not _is(self._lines[self._next], event, fields):
            return None
        return self._repeat()

    def due(self, event: str, **fields: Any) -> dict | None:
        """Return the next earlier line, which must have these fields; None if there is none.

        Raises:
          UserError: the line differs, so this version of the search did not write it.
        """
        if not self.replaying:
            return None
        fields = json.loads(json.dumps(strict(fields)))  # comparison needs JSON's types
        if not _is(self._lines[self._next], event, fields):
            raise self._foreign(json.dumps({"event": event, **fields}))
        return self._repeat()

    def append(self, event: str, **fields: Any) -> dict:
        """Add a line, to be written by the next `commit`; return it as it will be read.

        If the search repeats earlier lines, this line exists already and is checked instead.
        """
        line = self.due(event, **fields)
        return self._write(event, fields) if line is None else line

    def commit(self) -> None:
        """Write the appended lines together, and flush them to disk."""
        if self._pending:
            data = "".join(self._pending).encode()
            self._pending.clear()
            while data:  # a full disk leaves an incomplete line, which the next start removes
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)

    def _write(self, event: str, fields: dict) -> dict:
        text = json.dumps(strict({"event": event, **fields, _TIME: round(self._clock(), 3)}))
        self._pending.append(text + "\n")
        return _read(text.encode())

    def _repeat(self) -> dict:
        line = self._lines[self._next]
        self._next += 1
        self._taken = self._next
        self._read_total()
        return line

    def _foreign(self, expected: str) -> UserError:
        return UserError(
            f"{self._path}, line {self._next + 1}: here a search of this config has {expected} "
            "(written by another version, or changed by hand; choose another --workdir)"
        )

    def _read_total(self) -> None:
        """Read the number of trials from study lines, which take effect at their place."""
        while self.replaying and self._lines[self._next]["event"] == "study":
            self.trials = self._lines[self._next]["trials"]
            self._next += 1


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
            raise _damaged(f"{path}, line {number}")
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
        return _read(data)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _damaged(where) from None


def _read(data: bytes) -> dict:
    """Return a line with the right fields and types; otherwise raise Python's own errors."""
    line = _renamed(json.loads(data))
    event = line["event"]
    _check(line, {**_FIELDS[event], _TIME: _AMOUNT})
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


def _is(line: dict, event: str, fields: dict) -> bool:
    expected = {"event": event, **fields}
    return all(line.get(name) == value for name, value in expected.items())


def _damaged(where: str) -> UserError:
    return UserError(
        f"{where}: damaged; without this line and those after it the search goes on from there"
    )
