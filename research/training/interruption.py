"""Signals that ask a run to stop: noted, so that the loop can save first."""

import contextlib
import signal
from collections.abc import Iterator


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
