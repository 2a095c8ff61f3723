"""Watch the other processes of a run: if one ends alone or freezes, name it, and end all.

Without this, collectives would wait for it forever, or fail with a message about sockets. Each
process counts in the key-value store of process 0. A process is gone if its count stands still
while this process counts on. Counts need no clock: a job that is stopped and continued as a whole
loses no process.
"""

import contextlib
import itertools
import os
import signal
import sys
import threading
import time

_BEATS = 10  # in the time after which a silent process is gone
_GONE = 6  # beats without a count; both threads may be a beat late
_LINGER = 2  # beats that process 0 lives on: without its store, jax aborts the others
_FOLDER = "onestep/peers/"  # keys of the store: alive/PROCESS a count, left/PROCESS how it left
_GAVE_UP = "gave up on the others"
_watches: list["_Watch"] = []  # at most one


def watch(process: int, processes: int, seconds: float) -> None:
    """Start to watch, from `jax.distributed.initialize` to the end of this process.

    If a process is silent for `seconds`, or ends alone, this one names it on stderr and exits with
    code 1. A process that ends by an exception does not wait; the others notice that it is gone.
    (If process 0 dies, jax itself ends the others at once.)
    """
    # jax has no public access to the store; Orbax uses this one too.
    from jax._src import distributed

    _watches.append(_Watch(distributed.global_state.client, process, processes, seconds))


def leave(code: int) -> None:
    """Wait for the others to end too, before this process ends with an exit code.

    jax would wait for minutes. Here, processes that do not end read that this one has left, and all
    end. Signals are ignored from here on.
    """
    for running in _watches:
        running.leave(code)


class _Watch:
    """The two threads of one process: one counts and reads, the other one decides."""

    def __init__(self, store, process: int, processes: int, seconds: float):
        self._store, self._process, self._processes = store, process, processes
        self._seconds, self._beat = seconds, seconds / _BEATS
        self._silent = dict.fromkeys(set(range(processes)) - {process}, 0)  # by peer, in beats
        self._heard: dict[str, str] = {}  # the last contents of the store
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
        self._end_within(patience + _LINGER, code or 1)  # also if jax's own shutdown hangs
        self._leaving.set()
        self._counting.join()
        self._say(f"ended with exit code {code}")
        if not self._all_end_well(patience):
            self._exit(code or 1)
        # jax's own shutdown waits for all processes, which is short now.

    def _say(self, how: str) -> None:
        with contextlib.suppress(Exception):  # process 0 and the store are gone
            self._store.key_value_set(f"{_FOLDER}left/{self._process}", how)

    def _all_end_well(self, patience: float) -> bool:
        """Wait so many beats for the others' last words; return whether none gave up."""
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
            with contextlib.suppress(Exception):  # late, or process 0 is gone: `_judge` decides
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
        if not self._process:  # process 0 cannot ask whether the others have read it: wait
            time.sleep(_LINGER * self._beat)
        os._exit(code)

    def _end_within(self, beats: float, code: int) -> None:
        timer = threading.Timer(beats * self._beat, os._exit, [code])
        timer.daemon = True
        timer.start()

    def _end(self, kind, error, trace) -> None:
        if any(word in str(error) for word in ("Gloo", "NCCL", "UNAVAILABLE", "coordination")):
            time.sleep(2 * self._seconds)  # meanwhile `_judge` names the process and ends this one
        sys.__excepthook__(kind, error, trace)
        sys.stderr.flush()
        os._exit(1)
