"""Coordinate the processes of one run; with one process these functions do nothing.

All processes run the same program on the same numbers, so they decide alike. They first agree on
what comes from outside: a signal, a clock, a folder. Only process 0 writes.
"""

import hashlib
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from research.errors import UserError


def first() -> bool:
    """Return whether this process is the one that writes."""
    return jax.process_index() == 0


def agree(stop: bool, steps: int) -> tuple[bool, int]:
    """Return whether any process was asked to stop, and the number of steps of process 0."""
    answers = _gathered([stop, steps])
    return bool(answers[:, 0].any()), int(answers[0, 1])


def alone(function: Callable[[], None]) -> None:
    """Call a function in process 0, between two barriers: all processes see what it changed.

    Before the first barrier no process sees a change. If the function raises, all processes end.

    Raises:
      Exception: in process 0, the function's own; the others exit silently with code 2.
    """
    failed = None
    _gathered([0])
    if first():
        try:
            function()
        except Exception as error:
            failed = error
    if _gathered([failed is not None]).any():
        raise failed or SystemExit(2)


def demand_alike(what: str, value: str) -> None:
    """Refuse processes that were started with different values of something.

    Raises:
      UserError: in all of them.
    """
    digest = hashlib.sha256(value.encode(errors="backslashreplace")).digest()
    digests = _gathered([int.from_bytes(digest[:4], "big") >> 1])
    if (digests != digests[0]).any():
        raise UserError(f"the processes of this run were started with different {what}")


def is_parted(array) -> bool:
    """Return whether other processes hold parts of an array that are not here."""
    return isinstance(array, jax.Array) and not (
        array.is_fully_addressable or array.is_fully_replicated
    )


def on_host(tree) -> Any:
    """Return whole arrays as NumPy. If any array is parted, all processes must call this.

    Arrays that are not parted leave the device together, not one after the other.
    """

    def whole(array):
        if not is_parted(array):
            return array
        from jax.experimental import multihost_utils

        return multihost_utils.process_allgather(array, tiled=True)

    return jax.device_get(jax.tree.map(whole, tree))


def _gathered(numbers: list) -> np.ndarray:
    """Return the numbers of every process, int64 (processes, n)."""
    if jax.process_count() == 1:
        return np.array([numbers])
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(np.array(numbers, np.int32)))
