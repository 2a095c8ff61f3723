"""Call a worker through files in a folder that all hosts see.

Calls and answers are numbered files. A process that is alive touches a file of its own every few
seconds. Clocks of different hosts are not compared: only a change of the file's time counts.
"""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from research.tuning.remote_population import WorkerLost

DRIVER, _WORKER = "driver", "worker"  # heartbeat files: of the driver, and in each worker's folder
_EVERY = 2.0  # seconds
# Network file systems may show the time of a file a minute late.
_SILENT = 180.0


@contextlib.contextmanager
def heartbeat(path: Path, every: float = _EVERY) -> Iterator[None]:
    """Touch a file regularly while the context is open; remove it at the end."""
    over = threading.Event()
    path.touch()

    def beat():
        while not over.wait(every):
            with contextlib.suppress(OSError):  # the folder may have been removed
                os.utime(path)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        path.unlink(missing_ok=True)


class Monitor:
    """A watch on the `heartbeat` of another process.

    Args:
      path: of the file.
      begun: whether the file must be there from the start.
      silent: seconds without a change after which the process counts as stopped.
    """

    def __init__(self, path: Path, begun: bool = False, silent: float = _SILENT):
        self._path, self._silent = path, silent
        self._seen, self._at = 0 if begun else None, time.monotonic()

    def stopped(self) -> bool:
        """Return whether the process ended or has been silent for too long."""
        try:
            seen = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return self._seen is not None
        if seen != self._seen:
            self._seen, self._at = seen, time.monotonic()
        return time.monotonic() - self._at > self._silent


class FileConnection:
    """The driver's `Connection` to a worker in a job of submitit.

    Args:
      folder: of this worker.
      job: of submitit.
    """

    def __init__(self, folder: Path, job):
        self._folder, self._job, self._sent = folder, job, 0
        self._monitor = Monitor(folder / _WORKER)

    def send(self, text: str) -> int:
        """Write a call; return its number."""
        self._sent += 1
        _write(self._folder / f"{self._sent}.call", text)
        return self._sent

    def answer(self, ticket: int) -> str:
        """Wait for the answer to the call of this number; raise `WorkerLost` if none will come."""
        path = self._folder / f"{ticket}.answer"

        def check():
            if self._job.done() and not _exists(path):
                raise WorkerLost(f"its job has ended: {self._job.state}, {self._job.paths.stderr}")
            if self._monitor.stopped() and not _exists(path):
                raise WorkerLost("not heard of any more")

        _wait(path, check)
        return _take(path)


def serve(folder: str) -> None:
    """Answer the calls in a worker's folder until the driver ends."""
    from research.tuning.worker import Worker

    box = Path(folder)
    driver = Monitor(box.parent / DRIVER, begun=True)

    def check():
        if driver.stopped():
            raise EOFError

    # The folder is missing if another driver has begun since.
    with contextlib.suppress(EOFError, FileNotFoundError), heartbeat(box / _WORKER):
        worker, number = Worker(), 0
        while True:
            number += 1
            call = box / f"{number}.call"
            _wait(call, check)
            _write(box / f"{number}.answer", worker.call(_take(call)))


def _write(path: Path, text: str) -> None:
    """Write a file so that readers see all of it or nothing."""
    partial = path.with_suffix(".partial")
    partial.write_text(text)
    partial.rename(path)


def _take(path: Path) -> str:
    """Read and remove a file."""
    text = path.read_text()
    path.unlink()
    return text


def _exists(path: Path) -> bool:
    # A network file system caches for a while that a name was missing; listing it does not.
    return path.name in os.listdir(path.parent)


def _wait(path: Path, check: Callable[[], None]) -> None:
    """Wait for a file; look often at first, then every half second. `check` may raise."""
    started = time.monotonic()
    while not _exists(path):
        check()
        time.sleep(min(0.5, 0.002 + (time.monotonic() - started) / 20))
