"""The files of a run folder that grow while it runs, and survive a kill."""

import json
import math
import os
import statistics
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from research.errors import UserError

_NO_NUMBERS = ("step", "split", "members")


class MetricWriter:
    """Appends records to `metrics.jsonl` and to TensorBoard's event files.

    A record is written in one system call as one line, so that a kill leaves at most one half line;
    the next start removes it, and all that a resumed run will write again.
    """

    def __init__(self, workdir: Path, resume_step: int):
        from tensorboardX import SummaryWriter

        self._path = Path(workdir) / "metrics.jsonl"
        kept = [record for record in read_jsonl(self._path) if record["step"] <= resume_step]
        write_text(self._path, "".join(_line(record) for record in kept))
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND)
        self._board = SummaryWriter(
            str(Path(workdir) / "tensorboard"), purge_step=resume_step + 1, flush_secs=10
        )

    def __enter__(self) -> "MetricWriter":
        return self

    def __exit__(self, *_) -> None:
        self._board.close()
        os.close(self._file)

    def write(self, record: dict) -> None:
        """Appends {'step', 'split', ...numbers}; TensorBoard gets each number as split/name.

        'members', {'loss': [...], ...}, becomes split/members/loss_0 and so on.
        """
        os.write(self._file, _line(record).encode())
        numbers = {name: value for name, value in record.items() if name not in _NO_NUMBERS}
        for name, values in record.get("members", {}).items():
            numbers |= {f"members/{name}_{member}": value for member, value in enumerate(values)}
        for name, value in numbers.items():
            self._board.add_scalar(f"{record['split']}/{name}", value, record["step"])


def median_throughput(workdir: Path) -> float | None:
    """Training examples a second over all log points of a run, those before a resume too."""
    records = read_jsonl(Path(workdir) / "metrics.jsonl")
    found = [r["examples_per_second"] for r in records if r.get("examples_per_second")]
    return statistics.median(found) if found else None


def append_history(workdir: Path, event: str, step: int, **details) -> None:
    """Adds a line to `history.jsonl`: when, what, at which step."""
    record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "event": event}
    with open(Path(workdir) / "history.jsonl", "a") as file:
        file.write(_line({**record, "step": step, **details}))


def read_jsonl(path: Path) -> list[dict]:
    """All whole lines that are JSON objects; [] where there is no file."""
    records = []
    try:
        lines = Path(path).read_text(errors="replace").splitlines()
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
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
        value = json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as JSON ({error})") from None
    if not isinstance(value, dict):
        raise UserError(f"{path}: not a JSON object")
    return value


def write_text(path: Path, text: str) -> None:
    """Replaces a file at once: a reader, or a kill, sees the old or the new one, never a half."""
    path = Path(path)
    with tempfile.NamedTemporaryFile("w", dir=path.parent, prefix=".", delete=False) as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(file.name, 0o644)
    os.replace(file.name, path)


def write_json(path: Path, value: dict) -> None:
    """Replaces a JSON file at once."""
    write_text(path, json.dumps(_strict(value), indent=2) + "\n")


def _line(record: dict) -> str:
    return json.dumps(_strict(record)) + "\n"


def _strict(value):
    """JSON has no NaN or infinity: they become null."""
    if isinstance(value, dict):
        return {name: _strict(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
