"""The files of a run folder that grow while it runs, and survive a kill."""

import contextlib
import json
import math
import os
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from research.atomic import read_text, replaced
from research.errors import UserError
from research.strict_json import strict

_FLUSH_SECONDS = 10  # between flushes for TensorBoard
_NO_NUMBERS = ("step", "split", "members")


class MetricWriter:
    """Appends records to `metrics.jsonl` and to TensorBoard's event files.

    A record is one line, written at once, so that a kill leaves at most one half line; the next
    start removes it, and all that a resumed run will write again.
    """

    def __init__(self, workdir: Path, resume_step: int):
        self._path = Path(workdir) / "metrics.jsonl"
        kept = [record for record in read_metrics(workdir) if record["step"] <= resume_step]
        write_text(self._path, "".join(_line(record) for record in kept))
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._pending: list[str] = []
        self._board = _Board(Path(workdir) / "tensorboard", resume_step + 1)

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_) -> None:
        with contextlib.suppress(OSError):  # there may be room again for what could not be written
            _append(self._file, "".join(self._pending))
        self._board.close()
        os.close(self._file)

    def write(self, record: dict) -> None:
        """Appends {'step', 'split', ...numbers}; TensorBoard gets each number as split/name.

        'members', {'loss': [...], ...}, becomes split/members/loss_0 and so on.

        Raises:
          OSError: it cannot be written, and is tried again with the next one.
        """
        self._pending.append(_line(record))
        _append(self._file, "".join(self._pending))
        self._pending.clear()
        self._board.write(record)


@contextlib.contextmanager
def _without_torch() -> Iterator[None]:
    """tensorboardX imports PyTorch wherever that is installed: seconds, for nothing used here."""
    if "torch" in sys.modules:
        yield
        return
    sys.modules["torch"] = None  # an import of it fails
    try:
        yield
    finally:
        del sys.modules["torch"]


class _Board:
    """TensorBoard's event files.

    tensorboardX's own writer has a thread that dies of a full disk, and then blocks the training.
    """

    def __init__(self, folder: Path, first_step: int):
        with _without_torch():
            from tensorboardX.event_file_writer import EventsWriter
            from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(exist_ok=True)
        self._events = EventsWriter(str(folder / "events"), f".{time.time_ns()}")
        self._flushed = -math.inf
        start = SessionLog(status=SessionLog.START)  # what came later is forgotten
        self._events.write_event(Event(wall_time=time.time(), step=first_step, session_log=start))

    def write(self, record: dict) -> None:
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        now = time.time()
        numbers = {name: value for name, value in record.items() if name not in _NO_NUMBERS}
        for name, values in record.get("members", {}).items():
            numbers |= {f"members/{name}_{member}": value for member, value in enumerate(values)}
        for name, value in numbers.items():
            summary = scalar(f"{record['split']}/{name}", value)
            event = Event(wall_time=now, step=record["step"], summary=summary)
            self._events.write_event(event)
        if now - self._flushed > _FLUSH_SECONDS:
            self._events.flush()
            self._flushed = now

    def close(self) -> None:
        with contextlib.suppress(OSError):  # metrics.jsonl has it all
            self._events.flush()
        with contextlib.suppress(OSError):
            self._events.close()


def median_throughput(workdir: Path) -> float | None:
    """Training examples a second over all log points of a run, those before a resume too."""
    found = [record.get("examples_per_second") for record in read_metrics(workdir)]
    found = [number for number in found if number]
    return statistics.median(found) if found else None


def read_metrics(workdir: Path) -> list[dict]:
    """The records of `metrics.jsonl`, without those that something else has damaged."""
    return [record for record in read_jsonl(Path(workdir) / "metrics.jsonl") if _is_whole(record)]


def _is_whole(record: dict) -> bool:
    numbers = [value for name, value in record.items() if name not in ("split", "members")]
    return (
        isinstance(record.get("split"), str)
        and isinstance(record.get("step"), int)
        and all(isinstance(number, (int, float, type(None))) for number in numbers)
    )


def append_history(workdir: Path, event: str, step: int, **details) -> None:
    """Adds a line to `history.jsonl`: when, what, at which step."""
    record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event}
    file = os.open(Path(workdir) / "history.jsonl", os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(file).st_size
        half = size and os.pread(file, 1, size - 1) != b"\n"  # a line, left by a crash
        _append(file, "\n" * bool(half) + _line({**record, "step": step, **details}))
    finally:
        os.close(file)


def read_jsonl(path: Path) -> list[dict]:
    """All whole lines that are JSON objects; [] where there is no file.

    Raises:
      UserError: it is no file, or cannot be read.
    """
    records = []
    try:
        lines = read_text(Path(path)).splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
    for line in lines:
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue  # half a line, left by a kill
        if isinstance(record, dict):
            records.append(record)
    return records


def read_json(path: Path) -> dict:
    """One JSON object.

    Raises:
      UserError: there is none.
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
    """Replaces a file at once."""
    with replaced(path) as file:
        file.write(text.encode(errors="backslashreplace"))


def write_json(path: Path, value: dict) -> None:
    """Replaces a JSON file at once."""
    write_text(path, json.dumps(strict(value), indent=2) + "\n")


def _append(file: int, text: str) -> None:
    """All of the text or nothing."""
    size, data = os.fstat(file).st_size, text.encode()
    try:
        while data:  # what was written in part tells why at the next write
            data = data[os.write(file, data) :]
    except OSError:
        os.ftruncate(file, size)
        raise


def _line(record: dict) -> str:
    return json.dumps(strict(record)) + "\n"
