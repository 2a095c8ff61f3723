"""Watches the other processes of a run: one that dies or freezes is named, and this one ends.

Without that, collectives would wait for it for good, or fail with a word about sockets. Each
process counts in the key-value store that process 0 keeps for all; one whose count stands still
while this one counts on is gone. Counts and not clocks: a job that is stopped as a whole, and goes
on later, has lost nobody.
"""

import itertools
import os
import sys
import threading
import time

_BEATS = 10  # in the time that a silent process has
_GONE = 6  # beats after which it counts as gone; both threads may be a beat late
_LINGER = 2  # beats that process 0 outlives its verdict by: with it goes the store


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
    unanswered = [0]  # beats since the store answered last

    def count():
        heard = {}
        for number in itertools.count():
            try:
                store.key_value_set(_key(process), str(number), allow_overwrite=True)
                found = dict(store.key_value_dir_get(_key("")))
            except Exception:  # late once, or process 0 is gone: `judge` tells
                time.sleep(beat)
                continue
            unanswered[0] = 0
            for peer in silent:
                now = found.get(_key(peer))
                silent[peer] = silent[peer] + 1 if now == heard.get(peer) else 0
                heard[peer] = now
            time.sleep(beat)

    def judge():
        while True:
            time.sleep(beat)
            unanswered[0] += 1
            gone = [peer for peer, beats in silent.items() if beats >= _GONE]
            if unanswered[0] > _GONE:
                gone = [0]
            if gone:
                who = " and ".join(f"process {peer}" for peer in sorted(gone))
                print(
                    f"error: {who} of {processes} not heard of within {seconds:g} s: dead or "
                    "frozen; the same command goes on from the last checkpoint",
                    file=sys.stderr,
                    flush=True,
                )
                time.sleep(0 if process else _LINGER * beat)
                os._exit(1)

    def end(kind, error, trace):
        if any(word in str(error) for word in ("Gloo", "NCCL", "UNAVAILABLE", "coordination")):
            time.sleep(2 * seconds)  # most likely a peer: `judge` names it meanwhile
        sys.__excepthook__(kind, error, trace)
        sys.stderr.flush()
        os._exit(1)

    sys.excepthook = end
    for function in (count, judge):
        threading.Thread(target=function, daemon=True).start()


def _key(process) -> str:
    return f"onestep/alive/{process}"
