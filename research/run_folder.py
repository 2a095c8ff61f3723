"""Open, resume and finish run folders; refuse a folder with another config."""

import contextlib
import fcntl
import json
import os
import platform
import socket
import subprocess
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import IO

from ml_collections import ConfigDict

from research import config as configuration
from research.data import identity
from research.errors import UserError
from research.json_files import read_json, read_jsonl, write_json, write_text
from research.reporting import page
from research.reporting.records import append_history

_PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
_LOCK_BYTES = 1000


def finished(
    workdir: Path,
    config: ConfigDict,
    fingerprint: Callable[[], dict],
    tell: Callable[[str], None],
) -> dict | None:
    """Return the summary of a finished run of exactly this config; None if there is none.

    A diverged run has a summary too, but is not finished. The same command continues it from its
    last checkpoint, because the devices or a library may have changed.

    Args:
      workdir: the run folder.
      config: config of the run; its data may have moved.
      fingerprint: returns the fingerprint of the current data; called if the summary holds one.
      tell: receives one line if the data can no longer be loaded.

    Raises:
      UserError: the data differ from those of the run, or are missing at their new location.
    """
    path = workdir / "config.json"
    if not (path.exists() and (workdir / "summary.json").exists()):
        return None
    earlier = configuration.read(path, trusted=True)
    changed = configuration.differences(earlier, configuration.as_in(earlier, config))
    summary = read_json(workdir / "summary.json")
    known = summary.get("data")
    if changed.keys() - set(configuration.LOCATIONS) or (changed and not known):
        return None
    if summary.get("diverged"):
        return None
    if known:
        try:
            now = fingerprint()
        except UserError as error:
            if changed:
                raise
            tell(f"its data were not compared with those that are there now: {error}")
        else:
            identity.demand_same(known, now, f"--workdir = {str(workdir)!r}")
            if changed:  # the data have moved
                write_text(path, configuration.to_json(configuration.as_in(earlier, config)))
    if not (workdir / "report.html").exists():  # killed just before
        history = read_jsonl(workdir / "history.jsonl")
        if not any(record.get("event") == "finish" for record in history[-1:]):
            append_history(workdir, "finish", summary.get("steps", 0))
        page.write_report([workdir], workdir / "report.html")
    return summary


def reported_steps(workdir: Path) -> list[int]:
    """Return the steps of the networks that a run tested; [] without a readable summary."""
    try:
        summary = read_json(workdir / "summary.json")
    except UserError:
        return []
    members = summary.get("members")
    members = members if isinstance(members, list) else []
    steps = [member.get("step") for member in members if isinstance(member, dict)]
    steps = [step for step in (*steps, summary.get("tested_step")) if type(step) is int]
    return list(dict.fromkeys(steps))


@contextlib.contextmanager
def opened(
    workdir: Path, config: ConfigDict, total_steps: int, fingerprint: Callable[[], dict]
) -> Iterator[None]:
    """Lock the folder for a run of this config.

    A folder with the same config, except for values that a resumed run may change, is taken over.
    `history.jsonl` records changed values.

    Args:
      workdir: the folder.
      config: config of the run.
      total_steps: number of steps that this config trains.
      fingerprint: returns the fingerprint of the data; called if the folder holds one.

    Raises:
      UserError: the folder holds a run of another config or other data, or a run with no steps left
        for the changed values. Or the folder is in use, or cannot be written.
    """
    with locked(workdir):
        _take_over(workdir, config, total_steps, fingerprint)
        yield


@contextlib.contextmanager
def locked(workdir: Path) -> Iterator[None]:
    """Make the folder if it is missing, and lock it against other processes.

    Raises:
      UserError: the folder is in use, or cannot be written.
    """
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        lock = open(workdir / ".lock", "a+")  # noqa: SIM115
    except OSError as error:
        raise UserError(f"--workdir = {str(workdir)!r}: {error.strerror}") from None
    with lock:  # closing the file, or the end of the process, unlocks the folder
        _lock(workdir, lock)
        yield
        lock.truncate(0)


def finish(workdir: Path, summary: dict) -> None:
    """Write `summary.json` and `report.html` of a finished run."""
    write_json(workdir / "summary.json", summary)
    append_history(workdir, "finish", summary["steps"])
    page.write_report([workdir], workdir / "report.html")


def end_diverged(workdir: Path, summary: dict) -> None:
    """Write the summary of a diverged run, and a report without a test."""
    (workdir / "evaluation.npz").unlink(missing_ok=True)  # an earlier, shorter training wrote it
    write_json(workdir / "summary.json", summary)
    page.write_report([workdir], workdir / "report.html")


def _lock(workdir: Path, lock: IO[str]) -> None:
    """Lock a folder by the system's file lock.

    On a file system without locks the process id in the lock file decides.
    """
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


def check_data(workdir: Path, config: ConfigDict, fingerprint: dict) -> None:
    """Refuse data that differ from those of the run in a folder, before they are used.

    If the configs differ too, this function does not raise: `opened` names the keys.

    Raises:
      UserError: the line says how the data differ.
    """
    path = workdir / "config.json"
    if not path.exists():
        return
    known, earlier = _known_data(workdir), configuration.read(path, trusted=True)
    changed = configuration.differences(earlier, configuration.as_in(earlier, config))
    if known and not _refused(changed, known):
        identity.demand_same(known, fingerprint, f"--workdir = {str(workdir)!r}")


def _known_data(workdir: Path) -> dict:
    """Return the fingerprint of the data of the run in a folder; {} without a checkpoint."""
    from research.training.checkpoints import Checkpoints
    from research.training.fitted import known_data

    with Checkpoints(workdir, read_only=True) as checkpoints:
        return known_data(checkpoints)


def _refused(changed: dict, known: dict) -> dict:
    """Return the changes of a config that a resumed run cannot take over."""
    moved = configuration.LOCATIONS if "train" in known else ()
    return {
        key: values
        for key, values in changed.items()
        if not configuration.may_change_on_resume(key) and key not in moved
    }


def _take_over(
    workdir: Path, config: ConfigDict, total_steps: int, fingerprint: Callable[[], dict]
) -> None:
    known = _known_data(workdir)
    path = workdir / "config.json"
    earlier = configuration.read(path, trusted=True) if path.exists() else config
    changed = configuration.differences(earlier, config)
    refused = _refused(changed, known)
    if refused:
        keys = ", ".join(f"{key}: {old!r} -> {new!r}" for key, (old, new) in refused.items())
        raise UserError(
            f"--workdir = {str(workdir)!r} holds a run of another config ({keys}); "
            "choose another --workdir, or take these back"
        )
    if known:
        identity.demand_same(known, fingerprint(), f"--workdir = {str(workdir)!r}")
        if "train" not in known:
            print(
                f"{workdir} is of an earlier version: its data are not compared with those of now"
            )
    if changed:
        step = _last_saved(workdir)
        if step >= total_steps and changed.keys() - set(configuration.LOCATIONS):
            raise UserError(
                f"--workdir = {str(workdir)!r} has been trained for {step} steps: nothing of "
                f"{total_steps} is left to be trained with other values ({', '.join(changed)}); "
                "choose another --workdir, or a longer config.duration"
            )
        changes = {key: list(values) for key, values in changed.items()}
        append_history(workdir, "hyperparameters changed", step, changes=changes)
    if changed or not path.exists():
        write_text(path, configuration.to_json(config))
    (workdir / "summary.json").unlink(missing_ok=True)  # the run is no longer finished
    write_environment(workdir)


def _last_saved(workdir: Path) -> int:
    """Return the step from which a resumed run continues."""
    names = (path.name for path in (workdir / "checkpoints").glob("*"))
    return max((int(name) for name in names if name.isdecimal()), default=0)


def write_environment(workdir: Path) -> None:
    """Record what the numbers of a run depend on: versions, devices, cores, commit."""
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
