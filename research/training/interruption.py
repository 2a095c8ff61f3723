"""Signals that ask a run to stop: noted, so that the loop can save first."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence


@contextlib.contextmanager
def noted(*numbers: signal.Signals) -> Iterator[list[int]]:
    """While it is open these signals only fill the list; then they do again what they did before.

    Example:
      with noted(signal.SIGINT, signal.SIGTERM) as received:
        while not received: ...
    """
    received: list[int] = []
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
    """While it is open nothing can be lost: SIGINT and SIGTERM end the process soon.

    Python's handlers wait for a compiler, or a long evaluation, to come back; so a thread that the
    system wakes ends the process, with exit code 130, where that takes too long.

    Raises:
      KeyboardInterrupt: `received`, the list of `noted`, holds a signal already.
    """
    if received:
        raise KeyboardInterrupt
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
