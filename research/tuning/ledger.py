"""The ledger of a search: one JSON object a line, only ever appended to; the only truth.

A search is deterministic but for what it asks of others: a sampler's proposals, a training's
scores. These are its lines, in the order in which they were asked for, and the conclusions that
were drawn. A search that is resumed does everything once more, and takes what is in the ledger
from there instead; so it comes to where it was, and goes on as if it had never stopped.

    {"event": "study", "config": {...}, "trials": 64, "data": {...}}
    {"event": "ask", "count": 1, "trials": [{"number": 0, "values": {...}, ...}]}
    {"event": "program", "program": 0, "values": {...}, "facts": {"slots": 64, ...}}
    {"event": "report", "trial": 0, "piece": 1, "step": 30, "score": 0.31, ...}
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
from research.json_files import strict
from research.tuning.config import completed
from research.tuning.trials import METRICS

_OURS = "time"  # differs each time; all else is the outcome
# How much of it, and where it is trained, decide nothing about what was there before.
_MAY_CHANGE = ("trials", "engine", "workers", "slurm_options")
_NUMBER = (int, float, type(None))
_AMOUNT = (int, float)
_FIELDS: dict[str, dict[str, type | tuple[type, ...]]] = {
    "study": {"config": dict, "trials": int},
    "program": {"program": int, "values": dict, "facts": dict},
    "ask": {"count": int, "trials": list},
    "replace": {"trials": list},
    "report": {
        **dict.fromkeys(("trial", "piece", "step", "slot"), int),
        **dict.fromkeys(("score", "standard_error", *METRICS), _NUMBER),
        "epoch": _AMOUNT,
        "finite": bool,
    },
    "end": {"trial": int, "why": str},
}
_FACTS = dict.fromkeys(("slots", "chunk", "parameters"), int)
_LARGEST = 3.4028235e38  # of float32, which scores are
_MOST = 2**40  # of a count, of epochs and of seconds
_PROPOSED = {"number": int, "values": dict, "share": _AMOUNT, "parent": (int, type(None))}


class Ledger:
    """The lines of `ledger.jsonl`, those that were there and those that come.

    Args:
      path: of the file; a half last line, left by a kill, is cut off.

    Raises:
      UserError: a line that is damaged, with its number.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time):
        self._path, self._clock = Path(path), clock
        cut_half_line(self._path)
        self._lines = read(self._path) if self._path.exists() else []
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._next = 0  # of the lines that were there
        self._taken = 0  # number of the last that was taken, from 1
        self._pending: list[str] = []
        self.trials = 0  # in all, as the config said at this point of the search

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_) -> None:
        os.close(self._file)

    @property
    def data(self) -> dict:
        """The fingerprint of the data that the search began with; {} where it is not known."""
        return self._lines[0].get("data", {}) if self._lines else {}

    def begin(self, config: ConfigDict, data: dict | None = None) -> None:
        """Comes before all else; `config.search.trials` may have grown since the last time.

        Args:
          config: of the search.
          data: the fingerprint of its data (`folds.fingerprint`), where it is known.

        Raises:
          UserError: the ledger is of a search of another config, or of other data.
        """
        ours = json.loads(configuration.to_json(config))
        study = {"config": ours, "trials": config.search.trials, "data": data or self.data}
        told = [line for line in self._lines if line["event"] == "study"]
        if self._lines:
            self._check_same(
                self._lines[0]["config"], ours, may_have_moved=bool(data and self.data)
            )
            if data:
                what = f"--workdir = {str(self._path.parent)!r}"
                identity.demand_same(self.data, data, what)
            if told[-1]["trials"] > config.search.trials:
                raise UserError(
                    f"config.search.trials = {config.search.trials}: this search is one of "
                    f"{told[-1]['trials']} already (allowed: as many, or more)"
                )
        if not told or told[-1]["trials"] != config.search.trials:
            self._write("study", study)
            self._lines.append({"event": "study", **study})
        self._hear()

    def _check_same(self, theirs: dict, ours: dict, may_have_moved: bool) -> None:
        try:
            theirs = ConfigDict(completed(theirs))
            changed = configuration.differences(theirs, ConfigDict(ours))
        except (AttributeError, TypeError, ValueError):  # of keys that no config has
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
        """Whether there are lines left of what happened before."""
        return self._next < len(self._lines)

    @property
    def place(self) -> str:
        """Where the line stands that was taken last."""
        return f"{self._path}, line {self._taken}"

    def check_over(self) -> None:
        """When all is done again.

        Raises:
          UserError: there are lines of what was not.
        """
        if self.replaying:
            raise self._foreign("nothing more")

    def take(self, event: str, **fields: Any) -> dict | None:
        """Return the next line, if it is this; else None."""
        if not self.replaying or not _is(self._lines[self._next], event, fields):
            return None
        return self._pass()

    def due(self, event: str, **fields: Any) -> dict | None:
        """Return the next line, which must be this; None if it is still to come.

        Raises:
          UserError: it is another, so the ledger is not of this search as it is today.
        """
        if not self.replaying:
            return None
        fields = json.loads(json.dumps(strict(fields)))  # NumPy's numbers compare with lists apart
        if not _is(self._lines[self._next], event, fields):
            raise self._foreign(json.dumps({"event": event, **fields}))
        return self._pass()

    def append(self, event: str, **fields: Any) -> dict:
        """Add a line, from the next `commit` on; return it as it will be read.

        Where the search does again what it did, the line is there already.
        """
        there = self.due(event, **fields)
        return self._write(event, fields) if there is None else there

    def commit(self) -> None:
        """Write what was appended, in one piece, down to the disk."""
        if self._pending:
            data = "".join(self._pending).encode()
            self._pending.clear()
            while data:  # what a full disk cuts is a half line, which the next start removes
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)

    def _write(self, event: str, fields: dict) -> dict:
        text = json.dumps(strict({"event": event, **fields, _OURS: round(self._clock(), 3)}))
        self._pending.append(text + "\n")
        return _read(text.encode())

    def _pass(self) -> dict:
        line = self._lines[self._next]
        self._next += 1
        self._taken = self._next
        self._hear()
        return line

    def _foreign(self, expected: str) -> UserError:
        return UserError(
            f"{self._path}, line {self._next + 1}: here a search of this config has {expected} "
            "(written by another version, or changed by hand; choose another --workdir)"
        )

    def _hear(self) -> None:
        """Take over what the user said next about the total."""
        while self.replaying and self._lines[self._next]["event"] == "study":
            self.trials = self._lines[self._next]["trials"]
            self._next += 1


def read(path: Path) -> list[dict]:
    """Return the whole lines of a ledger, for those who only look.

    Raises:
      UserError: there is none, or a line that is damaged, or can follow those before it in no
        search; with its number.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    whole = data[: data.rfind(b"\n") + 1].splitlines()
    lines = [_parsed(line, f"{path}, line {number}") for number, line in enumerate(whole, start=1)]
    for number, fits in enumerate(_fitting(lines), start=1):
        if not fits:
            raise _damaged(f"{path}, line {number}")
    return lines


def config_of(path: Path) -> dict:
    """Return the config in the first line of a ledger; {} where there is none to be read."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        with open(path, "rb") as file:
            config = json.loads(file.readline())["config"]
        if all(type(config[key]) is type(value) for key, value in AUTOMATIC.items()):
            return config
    return {}


def cut_half_line(path: Path) -> None:
    """Remove what a kill left of a last line."""
    if path.exists():
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.truncate(path, whole)


def _parsed(data: bytes, where: str) -> dict:
    try:
        return _read(data)
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _damaged(where) from None


def _read(data: bytes) -> dict:
    """Return a line, whose fields are there and of their kinds; else it raises as Python does."""
    line = json.loads(data)
    event = line["event"]
    _check(line, {**_FIELDS[event], _OURS: _AMOUNT})
    for proposed in line["trials"] if event in ("ask", "replace") else ():
        _check(proposed, _PROPOSED)
    if event == "program":
        _check(line["facts"], _FACTS)
    if event == "report":
        line = {name: math.nan if value is None else value for name, value in line.items()}
        if line["epoch"] <= 0 or (line["finite"] and math.isnan(line["score"])):
            raise ValueError(event)
    return line


def _check(values: dict, fields: dict) -> None:
    """Kinds; numbers that are not finite are null in JSON, and only scores may be less than 0."""
    for name, kinds in fields.items():
        value = values[name]
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not bool):
            raise TypeError(name)
        if isinstance(value, float) and not abs(value) <= _LARGEST:
            raise ValueError(name)
        if (isinstance(value, int) or kinds == _AMOUNT) and not 0 <= value < _MOST:
            raise ValueError(name)


def _fitting(lines: Iterable[dict]) -> Iterator[bool]:
    """Whether each can follow those before it, in any search whatever."""
    begun = trials = 0
    programs: set[int] = set()
    done: dict[int, int] = {}  # pieces of each trial that has not ended
    for line in lines:
        event, trial = line["event"], line.get("trial")
        if event == "study":
            fits = line["trials"] > begun
            begun = line["trials"]
        elif event in ("ask", "replace"):
            count = line.get("count", 1)
            fits = bool(begun) and 1 <= len(line["trials"]) <= count
            for number, told in enumerate(line["trials"], start=trials):
                parent = told["parent"]
                asked = parent is None if event == "ask" else parent in done
                fits = fits and asked and told["number"] == number and 0 < told["share"] <= 1
                done[number] = done.get(parent, 0)
            trials += len(line["trials"])
        elif event == "program":
            fits = line["program"] not in programs and line["program"] < trials
            programs.add(line["program"])
        elif event == "report":
            fits = done.get(trial) == line["piece"] - 1
            done[trial] = line["piece"]
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
