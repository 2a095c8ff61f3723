"""The ledger of a search: one JSON object a line, append-only, and the only record of its state.

A search is deterministic except for the proposals of its sampler and the scores of its trials. The
ledger has these, in order, and the decisions that followed. A resumed search repeats everything and
takes proposals and scores from the ledger, so it continues as if it had never stopped.

A line is described in `ledger_lines.py`.
"""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research import config as configuration
from research.data import identity
from research.errors import UserError
from research.json_files import strict
from research.tuning.config import completed
from research.tuning.ledger_lines import TIME, cut_half_line, damaged, parsed, read
from research.tuning.reports import Objective

# Keys of `config.search` that do not change the lines already written.
_MAY_CHANGE = ("trials", "engine", "workers", "slurm_options")


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
        study = {
            "config": ours,
            "trials": config.search.trials,
            "data": data or self.data,
            "higher_is_better": Objective.from_config(config).higher_is_better,
        }
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
            raise damaged(f"{self._path}, line 1") from None
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
        text = json.dumps(strict({"event": event, **fields, TIME: round(self._clock(), 3)}))
        self._pending.append(text + "\n")
        return parsed(text.encode())

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


def _is(line: dict, event: str, fields: dict) -> bool:
    expected = {"event": event, **fields}
    return all(line.get(name) == value for name, value in expected.items())
