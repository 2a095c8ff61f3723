"""Watches the other processes of a run: where one ends alone, or freezes, it is named, and all end.

Without that, collectives would wait for it for good, or fail with a word about sockets. Each
process counts in the key-value store that process 0 keeps for all; one whose count stands still
while this one counts on is gone. Counts and not clocks: a job that is stopped as a whole, and goes
on later, has lost nobody.
"""

import contextlib
import itertools
import os
import signal
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

    Not for minutes, as jax would: where they do not, they read of it here, and all end. Signals are
    not heard any more.
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

    def end_within(limit: float, code: int) -> None:
        timer = threading.Timer(limit, os._exit, [code])
        timer.daemon = True
        timer.start()

    def give_up(code: int) -> None:
        with contextlib.suppress(Exception):  # process 0 is gone, and the store with it
            tell(_GAVE_UP)
        time.sleep(0 if process else _LINGER * beat)
        os._exit(code)

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
                end_within(2 * _LINGER * beat, 1)  # the store may never answer again
                who = " and ".join(f"process {peer}" for peer in sorted(gone))
                what, *others = {heard.get(peer, "") for peer in gone}
                if others or not what.startswith(_ENDED):
                    what = f"not heard of within {seconds:g} s: dead or frozen"
                print(
                    f"error: {who} of {processes} {what}; the same command goes on from the last "
                    "checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                give_up(1)

    def wait(code: int) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        sys.stdout.flush()
        sys.stderr.flush()
        end_within((_GONE + 3 * _LINGER) * beat, code or 1)  # in jax's farewell, too
        left.set()
        counting.join()
        with contextlib.suppress(Exception):  # process 0 is gone, and the store with it
            tell(f"{_ENDED} {code}")
            while _GAVE_UP not in (said := listen().values()):
                if all(what.startswith(_ENDED) for what in said):
                    return  # jax's own farewell, which waits for all, is short then
                time.sleep(0.02)
        give_up(code or 1)

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
