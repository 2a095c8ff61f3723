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

_BEATS = 10  # in the time that a silent process has
_GONE = 6  # beats after which it counts as gone; both threads may be a beat late
_LINGER = 2  # beats that process 0 outlives its decision by: where the store goes, jax aborts
_FOLDER = "onestep/peers/"  # in the store: alive/PROCESS a count, left/PROCESS how it left
_GAVE_UP = "gave up on the others"
_watches: list["_Watch"] = []  # one at most


def watch(process: int, processes: int, seconds: float) -> None:
    """Starts to watch, from `jax.distributed.initialize` to the end of this process.

    Within so many seconds a process that is not heard of, or has ended alone, is named on stderr,
    and this one exits with code 1. So does one that ends by an exception, without waiting for the
    others, who notice when it is gone. (When process 0 dies, jax itself ends the others at once.)
    """
    # jax has no public way to the store; Orbax goes this one too.
    from jax._src import distributed

    _watches.append(_Watch(distributed.global_state.client, process, processes, seconds))


def leave(code: int) -> None:
    """Before this process ends with an exit code: waits for the others to end too.

    Not for minutes, as jax would: where they do not, they read of it here, and all end. Signals are
    not heard any more.
    """
    for one in _watches:
        one.leave(code)


class _Watch:
    """The two threads of one process: one counts and listens, the other one judges."""

    def __init__(self, store, process: int, processes: int, seconds: float):
        self._store, self._process, self._processes = store, process, processes
        self._seconds, self._beat = seconds, seconds / _BEATS
        self._silent = dict.fromkeys(set(range(processes)) - {process}, 0)  # by peer, in beats
        self._heard: dict[str, str] = {}  # all that stands in the store
        self._unanswered = 0  # beats since the store answered last
        self._leaving = threading.Event()
        self._counting = threading.Thread(target=self._count, daemon=True)
        self._counting.start()
        threading.Thread(target=self._judge, daemon=True).start()
        sys.excepthook = self._end

    def leave(self, code: int) -> None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        sys.stdout.flush()
        sys.stderr.flush()
        patience = _GONE + 2 * _LINGER
        self._end_within(patience + _LINGER, code or 1)  # in jax's farewell, too
        self._leaving.set()
        self._counting.join()
        self._say(f"ended with exit code {code}")
        if not self._all_end_well(patience):
            self._exit(code or 1)
        # jax's own farewell, which waits for all, is short now.

    def _say(self, how: str) -> None:
        with contextlib.suppress(Exception):  # process 0 and the store are gone
            self._store.key_value_set(f"{_FOLDER}left/{self._process}", how)

    def _all_end_well(self, patience: float) -> bool:
        """Waits so many beats for what the others say."""
        deadline = time.monotonic() + patience * self._beat
        with contextlib.suppress(Exception):  # too late, or process 0 and the store are gone
            said = []
            for peer in self._silent:
                milliseconds = max(1, int(1000 * (deadline - time.monotonic())))
                key = f"{_FOLDER}left/{peer}"
                said.append(self._store.blocking_key_value_get(key, milliseconds))
            return _GAVE_UP not in said
        return False

    def _count(self) -> None:
        ours = f"{_FOLDER}alive/{self._process}"
        for number in itertools.count():
            with contextlib.suppress(Exception):  # late once, or process 0 is gone: `_judge` tells
                self._store.key_value_set(ours, str(number), allow_overwrite=True)
                now = dict(self._store.key_value_dir_get(_FOLDER))
                self._unanswered = 0
                for peer in self._silent:
                    key = f"{_FOLDER}alive/{peer}"
                    stands = now.get(key) == self._heard.get(key)
                    self._silent[peer] = self._silent[peer] + 1 if stands else 0
                self._heard = now
            if self._leaving.wait(self._beat):
                return

    def _judge(self) -> None:
        while not self._leaving.wait(self._beat):
            self._unanswered += 1
            gone = sorted(peer for peer, beats in self._silent.items() if beats >= _GONE)
            if self._unanswered > _GONE:
                gone = [0]
            if gone:
                self._end_within(2 * _LINGER, 1)  # the store may never answer again
                print(f"error: {self._verdict(gone)}", file=sys.stderr, flush=True)
                self._say(_GAVE_UP)
                self._exit(1)

    def _verdict(self, gone: list[int]) -> str:
        left = {self._heard.get(f"{_FOLDER}left/{peer}") for peer in gone}
        what = f"not heard of within {self._seconds:g} s: dead or frozen"
        if len(left) == 1 and None not in left:
            what = left.pop()
        who = " and ".join(f"process {peer}" for peer in gone)
        return (
            f"{who} of {self._processes} {what}; the same command goes on from the last checkpoint"
        )

    def _exit(self, code: int) -> None:
        if not self._process:  # of the others' ends nobody tells: time has to do
            time.sleep(_LINGER * self._beat)
        os._exit(code)

    def _end_within(self, beats: float, code: int) -> None:
        timer = threading.Timer(beats * self._beat, os._exit, [code])
        timer.daemon = True
        timer.start()

    def _end(self, kind, error, trace) -> None:
        if any(word in str(error) for word in ("Gloo", "NCCL", "UNAVAILABLE", "coordination")):
            time.sleep(2 * self._seconds)  # most likely a peer: `_judge` names it meanwhile
        sys.__excepthook__(kind, error, trace)
        sys.stderr.flush()
        os._exit(1)
