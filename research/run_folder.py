"""The run folder: new, to be resumed, finished, or of another config."""

import contextlib
import fcntl
import json
import os
import platform
import socket
import subprocess
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

from ml_collections import ConfigDict

from research import config as configuration
from research.errors import UserError
from research.reporting import page
from research.reporting.writers import append_history, read_json, read_jsonl, write_json, write_text

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_LOCK_BYTES = 1000


def finished(workdir: Path, config: ConfigDict) -> dict | None:
    """The summary of a finished run of this very config; None where there is none."""
    path = workdir / "config.json"
    if not (path.exists() and (workdir / "summary.json").exists()):
        return None
    earlier = configuration.read(path)
    if configuration.differences(earlier, configuration.as_in(earlier, config)):
        return None
    if not (workdir / "report.html").exists():  # killed just before
        history = read_jsonl(workdir / "history.jsonl")
        if not any(record.get("event") == "finish" for record in history[-1:]):
            append_history(workdir, "finish", read_json(workdir / "summary.json").get("steps", 0))
        page.write_report([workdir], workdir / "report.html")
    return read_json(workdir / "summary.json")


@contextlib.contextmanager
def opened(workdir: Path, config: ConfigDict, total_steps: int) -> Iterator[None]:
    """Holds the folder for a run of this config, against other processes too.

    A folder that holds the same config, up to traced hyper-parameters, is taken over; changed
    values are recorded in `history.jsonl`.

    Args:
      workdir: the folder.
      config: of the run.
      total_steps: how long this config trains.

    Raises:
      UserError: the folder holds a run of another config, or one that is too long already for the
        new values to be trained with; it is in use, or cannot be written.
    """
    with locked(workdir):
        _take_over(workdir, config, total_steps)
        yield


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Makes the folder where there is none, and holds it against other processes.

    Raises:
      UserError: it is in use, or cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "a+")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"--workdir = {str(workdir)!r}: {error.strerror}") from None
    with lock:  # closing it, or dying, gives the folder free
        _lock(workdir, lock)
        yield
        lock.truncate(0)


def finish(workdir: Path, summary: dict) -> None:
    """Writes what a finished run leaves: `summary.json` and `report.html`."""
    write_json(workdir / "summary.json", summary)
    append_history(workdir, "finish", summary["steps"])
    page.write_report([workdir], workdir / "report.html")


def _lock(workdir: Path, lock: IO[str]) -> None:
    """The system's lock decides; where a file system has none, what the holder wrote does."""
    lock.seek(0)
    try:
        holder = json.loads(lock.read(_LOCK_BYTES))
        pid, host = int(holder["pid"]), str(holder["host"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        pid, host = 0, ""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        held = False
    except BlockingIOError:
        held = True
    except OSError:
        held = host == socket.gethostname() and _lives(pid)
    if held:
        who = f"process {pid} on {host}" if pid else "another process"
        raise UserError(f"--workdir = {str(workdir)!r} is in use by {who}")
    if pid:
        print(f"taking {workdir} over from process {pid} on {host}, which is gone")
    lock.truncate(0)
    lock.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
    lock.flush()


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _take_over(workdir: Path, config: ConfigDict, total_steps: int) -> None:
    path = workdir / "config.json"
    if not path.exists():
        write_text(path, configuration.to_json(config))
        write_environment(workdir)
        return
    earlier = configuration.read(path)
    changed = configuration.differences(earlier, config)
    free = {
        *configuration.TRACED,
        *configuration.TRACED_DURATIONS,
        *configuration.POLICIES,
    }
    refused = {key: values for key, values in changed.items() if key not in free}
    if refused:
        keys = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in refused.items())
        raise UserError(
            f"--workdir = {str(workdir)!r} holds a run of another config ({keys}); "
            "choose another --workdir, or take these back"
        )
    if changed:
        step = _last_saved(workdir)
        if step >= total_steps:
            raise UserError(
                f"--workdir = {str(workdir)!r} has been trained for {step} steps: nothing of "
                f"{total_steps} is left to be trained with other values ({', '.join(changed)}); "
                "choose another --workdir, or a longer config.duration"
            )
        changes = {key: list(values) for key, values in changed.items()}
        append_history(workdir, "hyperparameters changed", step, changes=changes)
        (workdir / "summary.json").unlink(missing_ok=True)  # there is something to do again
        write_text(path, configuration.to_json(config))
    write_environment(workdir)


def _last_saved(workdir: Path) -> int:
    """The step from which a resumed run goes on."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def write_environment(workdir: Path) -> None:
    """Records what the numbers of a run depend on: versions, devices, cores, commit."""
    import jax

    write_json(
        workdir / "environment.json",
        {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in _PACKAGES},
            "platform": platform.platform(),
            "devices": json.dumps([str(device) for device in jax.devices()]),
            "device_kind": jax.devices()[0].device_kind,
            "cpu_cores": len(os.sched_getaffinity(0)),
            "xla_flags": os.environ.get("XLA_FLAGS", ""),
            "git_commit": _git_commit(),
        },
    )


def _git_commit() -> str | None:
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
