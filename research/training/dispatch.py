"""Decide how many steps are dispatched at once, and from which thread."""

import dataclasses
from concurrent.futures import Executor, Future, ThreadPoolExecutor

import jax

_DISPATCH_SECONDS = 0.5  # long enough to hide the dispatch, short enough for a live progress bar


@dataclasses.dataclass
class Pace:
    """Choose how many steps to dispatch at once."""

    fixed: int  # 0: as many as take half a second
    steps: int = 1

    def __post_init__(self):
        self.steps = self.fixed or self.steps

    def update(self, steps: int, seconds: float) -> None:
        """Adapt to the duration of a finished dispatch; grow at most fourfold at a time."""
        if not self.fixed:
            wanted = _DISPATCH_SECONDS * steps / max(seconds, 1e-6)
            self.steps = max(1, min(int(wanted), 4 * self.steps))


class _Inline(Executor):
    """Call submitted functions at once, in the same thread, so that errors are raised there."""

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        return future


def dispatcher() -> Executor:
    """Return the executor that dispatches steps.

    A single process dispatches from a second thread: on a GPU, XLA blocks the calling thread until
    a loop with a traced number of steps is almost over (BUILD_NOTES.md, Speed on GPU). Several
    processes dispatch from the main thread, because all must start their programs in one order: a
    process that cannot start its steps must not wait for the others in another program.
    """
    return ThreadPoolExecutor(1, "dispatch") if jax.process_count() == 1 else _Inline()
