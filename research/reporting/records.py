"""The records of a run folder: `metrics.jsonl` and `history.jsonl`, which survive a kill."""

import contextlib
import importlib.util
import os
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from research.errors import UserError
from research.json_files import append, line, read_jsonl, write_text
from research.names import resolve

NO_METRICS = ("step", "epoch", "seconds", "split", "members")  # the other keys of a record
_NOT_NUMERIC = ("split", "members")


class MetricWriter:
    """Append records to `metrics.jsonl`, and pass them to other writers.

    A record is one line, written in one piece. A kill leaves at most half a line. The next start
    removes that line and all records that the resumed run will write again.

    A writer that raises never stops the run: the error is one warning, and the writer is dropped.

    Args:
      workdir: the run folder.
      resume_step: records of later steps are removed.
      config: the whole config; the other writers get it.
      writers: functions (workdir, config, resume_step) -> writer by name, as `named_writers`.
      warn: prints one line.
    """

    def __init__(
        self,
        workdir: Path,
        resume_step: int,
        config: ConfigDict | None = None,
        writers: Mapping[str, Callable[..., Any]] | None = None,
        warn: Callable[[str], None] = lambda text: print(text, file=sys.stderr),
    ):
        self._path, self._warn = Path(workdir) / "metrics.jsonl", warn
        kept = [record for record in read_metrics(workdir) if record["step"] <= resume_step]
        write_text(self._path, "".join(line(record) for record in kept))
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._pending: list[str] = []
        self._writers: dict[str, Any] = {}
        for name, make in (writers or {}).items():
            with self._dropped_on_error(name):
                self._writers[name] = make(Path(workdir), config, resume_step)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):  # the disk may have room again for pending records
            append(self._file, "".join(self._pending))
        os.close(self._file)
        for name in list(self._writers):
            with self._dropped_on_error(name):
                self._writers[name].close()

    def write(self, record: dict) -> None:
        """Append {'step', 'epoch', 'split', 'seconds', ...metrics} to the file and the writers.

        Raises:
          OSError: the file cannot be written; the next call tries to write the record again.
        """
        self._pending.append(line(record))
        append(self._file, "".join(self._pending))
        self._pending.clear()
        for name in list(self._writers):
            with self._dropped_on_error(name):
                self._writers[name].write(record)

    @contextlib.contextmanager
    def _dropped_on_error(self, name: str) -> Iterator[None]:
        try:
            yield
        except UserError:
            raise
        except Exception as error:  # of code that is not ours
            self._writers.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            self._warn(f"warning: config.logging.writers: {name!r} is dropped ({reason})")


def named_writers(config: ConfigDict) -> dict[str, Callable[..., Any]]:
    """Return the functions that `config.logging.writers` names, by name.

    Raises:
      UserError: a name is unknown, or its package is not installed.
    """
    from research.reporting import writers

    key, functions = "config.logging.writers", {}
    for name in config.logging.writers:
        functions[name] = resolve(key, name, writers)
        package = getattr(functions[name], "package", None)
        if package and importlib.util.find_spec(package) is None:
            raise UserError(
                f"{key}: {name!r} needs a package that is not installed "
                f"(pip install 'onestep[{package}]')"
            )
    return functions


def read_metrics(workdir: Path) -> list[dict]:
    """Return the records of `metrics.jsonl` without the damaged ones."""
    return [record for record in read_jsonl(Path(workdir) / "metrics.jsonl") if _is_whole(record)]


def _is_whole(record: dict) -> bool:
    return (
        isinstance(record.get("split"), str)
        and isinstance(record.get("step"), int)
        and all(_is_numeric(value) for name, value in record.items() if name not in _NOT_NUMERIC)
    )


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_numeric, value))
    return value is None or isinstance(value, (int, float))


def median_throughput(workdir: Path) -> float | None:
    """Return the median of `examples_per_second` over all log points, before a resume too."""
    speeds = [record.get("examples_per_second") for record in read_metrics(workdir)]
    speeds = [speed for speed in speeds if speed]
    return statistics.median(speeds) if speeds else None


def append_history(workdir: Path, event: str, step: int, **details) -> None:
    """Append a line to `history.jsonl`: the time, the event, the step and its details."""
    record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event}
    file = os.open(Path(workdir) / "history.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        is_half = size and os.pread(file, 1, size - 1) != b"\n"  # the last line, after a crash
        append(file, "\n" * bool(is_half) + line({**record, "step": step, **details}))
    finally:
        os.close(file)
