"""Note signals that ask a run to stop, so that the loop can save first."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def noted(*numbers: signal.Signals) -> Iterator[list[int]]:
    """Collect these signals in a list while open; then restore what they did before.

    Only the main thread of Python receives signals: in another thread the list stays empty.

    Example:
      with noted(signal.SIGINT, signal.SIGTERM) as received:
        while not received: ...
    """
    received: list[int] = []
    if not _in_main_thread():
        yield received
        return
    before = {
        number: signal.signal(number, lambda number, _: received.append(number))
        for number in numbers
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def at_once(received: Sequence[int] = (), seconds: float = 5) -> Iterator[None]:
    """Let SIGINT and SIGTERM end the process soon while open, when nothing can be lost.

    Python's handlers wait for a compiler, or a long evaluation, to come back. If that takes too
    long, a thread that the system wakes ends the process with exit code 130.

    Raises:
      KeyboardInterrupt: `received`, the list of `noted`, holds a signal already.
    """
    if received:
        raise KeyboardInterrupt
    if not _in_main_thread():
        yield
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    closed = threading.Event()

    def watch():
        while signals := ours.recv(1):
            if signals[0] in (signal.SIGINT, signal.SIGTERM) and not closed.wait(seconds):
                os.write(2, b"interrupted; the same command goes on\n")
                os._exit(130)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    before = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        closed.set()
        theirs.close()
        thread.join()
        ours.close()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
