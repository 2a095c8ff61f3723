"""A worker behind a folder that all hosts see: calls and answers are files, one after the other.

Who is alive touches a file of its own every few seconds. Nobody compares clocks of two hosts: what
counts is that the time of the file changes.
"""

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from research.tuning.team import Lost

DRIVER, _WORKER = "driver", "worker"  # in the folder of all workers, and in that of each
_EVERY = 2.0  # seconds
# Network file systems may show the time of a file a minute late.
_SILENT = 180.0


@contextlib.contextmanager
def alive(path: Path, every: float = _EVERY) -> Iterator[None]:
    """While it is open the file is touched; then it is removed."""
    over = threading.Event()
    path.touch()

    def beat():
        while not over.wait(every):
            with contextlib.suppress(OSError):  # a folder that is gone has no one to tell
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)


class Pulse:
    """Of someone who is `alive`.

    Args:
      path: of the file.
      begun: whether it must have been there already.
      silent: seconds that it may not change for, once it has been there.
    """

    def __init__(self, path: Path, begun: bool = False, silent: float = _SILENT):
        self._path, self._silent = path, silent
        self._seen, self._at = 0 if begun else None, time.monotonic()

    def stopped(self) -> bool:
        """Whether it has been silent for too long, or said that it is over."""
        try:
            seen = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._seen is not None
        if seen != self._seen:
            self._seen, self._at = seen, time.monotonic()
        return time.monotonic() - self._at > self._silent


class Mailbox:
    """The driver's side.

    Args:
      folder: of this worker.
      job: of submitit.
    """

    def __init__(self, folder: Path, job):
        self._folder, self._job, self._sent = folder, job, 0
        self._pulse = Pulse(folder / _WORKER)

    def send(self, text: str) -> int:
        """As `Remote`."""
        self._sent += 1
        _write(self._folder / f"{self._sent}.call", text)
        return self._sent

    def answer(self, ticket: int) -> str:
        """As `Remote`."""
        path = self._folder / f"{ticket}.answer"

        def lost():
            if self._job.done() and not _there(path):
                raise Lost(f"its job has ended: {self._job.state}, {self._job.paths.stderr}")
            if self._pulse.stopped() and not _there(path):
                raise Lost("not heard of any more")

        _wait(path, lost)
        return _taken(path)


def serve(folder: str) -> None:
    """Run the worker's side, to the end of the driver."""
    from research.tuning.worker import Worker

    box = Path(folder)
    driver = Pulse(box.parent / DRIVER, begun=True)

    def over():
        if driver.stopped():
            raise EOFError

    # The folder is gone, where another driver has begun meanwhile.
    with contextlib.suppress(EOFError, FileNotFoundError), alive(box / _WORKER):
        worker, number = Worker(), 0
        while True:
            number += 1
            call = box / f"{number}.call"
            _wait(call, over)
            _write(box / f"{number}.answer", worker.call(_taken(call)))


def _write(path: Path, text: str) -> None:
    """All of it at once, for those who look."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(path)


def _taken(path: Path) -> str:
    text = path.read_text()
    path.unlink()
    return text


def _there(path: Path) -> bool:
    # A network file system remembers for a while that a name was not there; not so a listing.
    return path.name in os.listdir(path.parent)


def _wait(path: Path, check) -> None:
    """Look often at first, then less often."""
    started = time.monotonic()
    while not _there(path):
        check()
        time.sleep(min(0.5, 0.002 + (time.monotonic() - started) / 20))
