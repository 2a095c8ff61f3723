"""Watches the other processes of a run: where one ends alone, or freezes, it is named, and all end.

Without that, collectives would wait for it for good, or fail with a word about sockets. Each
process counts in the key-value store that process 0 keeps for all; one whose count stands still
while this one counts on is gone. Counts and not clocks: a job that is stopped as a whole, and goes
on later, has lost nobody.
"""

import contextlib
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable

_BEATS = 10  # in the time that a silent process has
_GONE = 6  # beats after which it counts as gone; both threads may be a beat late
_LINGER = 2  # beats that process 0 outlives its verdict by: with it goes the store
_ENDED = "ended with exit code"  # stands instead of the count of a process that ends
_GAVE_UP = "waits no longer"  # the same, where it ends because of others
_leaving: list[Callable[[int], None]] = []  # of the watch, once it has begun


def leave(code: int) -> None:
    """Before this process ends with an exit code: waits for the others to end too.

    Not for minutes, as jax would: where they do not, this process ends, and they find it silent.
    """
    for wait in _leaving:
        wait(code)


def watch(process: int, processes: int, seconds: float) -> None:
    """Starts to watch, from `jax.distributed.initialize` to the end of this process.

    Within so many seconds a process that is not heard of is named on stderr, and this one exits
    with code 1. So does one that ends by an exception, without waiting for the others at the end,
    who notice only when it is gone. (When process 0 dies, jax itself ends the others at once.)
    """
    # jax has no public way to the store; Orbax goes this one too.
    from jax._src import distributed

    store = distributed.global_state.client
    beat = seconds / _BEATS
    silent = dict.fromkeys(set(range(processes)) - {process}, 0)  # by peer, in beats
    heard = dict.fromkeys(silent, "")  # what each said last
    unanswered = [0]  # beats since the store answered last
    left = threading.Event()

    def tell(what: str) -> None:
        store.key_value_set(_key(process), what, allow_overwrite=True)

    def listen() -> dict[int, str]:
        found = dict(store.key_value_dir_get(_key("")))
        return {peer: found.get(_key(peer), "") for peer in silent}

    def count():
        for number in itertools.count():
            if left.is_set():
                return
            try:
                tell(str(number))
                now = listen()
            except Exception:  # late once, or process 0 is gone: `judge` tells
                left.wait(beat)
                continue
            unanswered[0] = 0
            for peer in silent:
                silent[peer] = silent[peer] + 1 if now[peer] == heard[peer] else 0
            heard.update(now)
            left.wait(beat)

    def judge():
        while not left.wait(beat):
            unanswered[0] += 1
            gone = [peer for peer, beats in silent.items() if beats >= _GONE]
            if unanswered[0] > _GONE:
                gone = [0]
            if gone:
                who = " and ".join(f"process {peer}" for peer in sorted(gone))
                what = f"not heard of within {seconds:g} s: dead or frozen"
                if heard[gone[0]].startswith(_ENDED):
                    what = heard[gone[0]]
                print(
                    f"error: {who} of {processes} {what}; the same command goes on from the last "
                    "checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                with contextlib.suppress(Exception):  # the store may be gone
                    tell(_GAVE_UP)
                time.sleep(0 if process else _LINGER * beat)
                os._exit(1)

    def wait(code: int) -> None:
        left.set()
        counting.join()
        deadline = time.monotonic() + (_GONE + 2 * _LINGER) * beat
        with contextlib.suppress(Exception):  # process 0 is gone, and the store with it
            tell(f"{_ENDED} {code}")
            while _GAVE_UP not in (said := listen().values()) and time.monotonic() < deadline:
                if all(what.startswith(_ENDED) for what in said):
                    return  # jax's own farewell, which waits for all, is short then
                time.sleep(0.02)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 1)

    def end(kind, error, trace):
        if any(word in str(error) for word in ("Gloo", "NCCL", "UNAVAILABLE", "coordination")):
            time.sleep(2 * seconds)  # most likely a peer: `judge` names it meanwhile
        sys.__excepthook__(kind, error, trace)
        sys.stderr.flush()
        os._exit(1)

    sys.excepthook = end
    counting = threading.Thread(target=count, daemon=True)
    counting.start()
    threading.Thread(target=judge, daemon=True).start()
    _leaving.append(wait)


def _key(process) -> str:
    return f"onestep/alive/{process}"
