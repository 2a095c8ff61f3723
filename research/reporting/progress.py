"""What a user watches: a live bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from datetime import timedelta


class Progress:
    """Shows where training stands: epoch, loss, accuracy, examples a second, time left."""

    def __init__(self, total_steps: int, steps_per_epoch: float, first_step: int = 0):
        self._total, self._steps_per_epoch = total_steps, steps_per_epoch
        self._first, self._started, self._shown = first_step, time.perf_counter(), {}
        self._last_line = -math.inf
        self._bar = None
        if sys.stderr.isatty():
            self._bar, self._task = _terminal_bar(total_steps, first_step)

    def __enter__(self) -> "Progress":
        if self._bar:
            self._bar.start()
        self._started = time.perf_counter()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, metrics: dict) -> None:
        """Tells of a finished dispatch.

        On a terminal the bar moves. Elsewhere a line is printed where there is a new validation
        accuracy (but not more than one a second), every ten seconds, and at the end.
        """
        self._shown.update(metrics)
        if self._bar:
            self._bar.update(self._task, completed=step, text=self._text(step))
            return
        now = time.perf_counter()
        pause = 1 if "validation_accuracy" in metrics else 10
        if now - self._last_line > pause or step == self._total:
            self._last_line = now
            print(f"{self._text(step)}  {self._left(step)} left", file=sys.stderr, flush=True)

    def _text(self, step: int) -> str:
        shown = self._shown
        epochs = self._total / self._steps_per_epoch
        epoch = step / self._steps_per_epoch
        parts = [f"epoch {epoch:.1f}/{epochs:.1f}", f"step {step}/{self._total}"]
        parts.append(f"loss {shown['loss']:.4f}")
        parts.append(f"accuracy {shown['accuracy']:.2%}")
        if "validation_accuracy" in shown:
            parts.append(f"validation {shown['validation_accuracy']:.2%}")
        if "validation_averaged_accuracy" in shown:
            parts.append(f"averaged {shown['validation_averaged_accuracy']:.2%}")
        parts.append(f"{shown['examples_per_second']:,.0f} examples/s")
        return "  ".join(parts)

    def _left(self, step: int) -> str:
        elapsed = time.perf_counter() - self._started
        seconds = elapsed / max(step - self._first, 1) * (self._total - step)
        return str(timedelta(seconds=round(seconds)))


class SearchProgress:
    """Shows where a search stands: trials, the best so far, lanes at work, speed, time left."""

    def __init__(self):
        self._bar = self._began = None
        self._last_line = -math.inf

    def __enter__(self) -> "SearchProgress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: float, total: int, ended: int, best: str, busy: int, lanes: int) -> None:
        """Tells of what just happened; on a terminal the bar moves, elsewhere there are lines.

        Args:
          done: trials, with shares of those at work.
          total: trials there are to be.
          ended: trials.
          best: what is known of the best, in words.
          busy: lanes that were trained just now, of so many `lanes`.
        """
        now = time.perf_counter()
        if self._began is None:  # what a resumed search did before says nothing of the speed
            self._began = (now, done)
            if sys.stderr.isatty():
                self._bar, self._task = _terminal_bar(total, done)
                self._bar.start()
        seconds, gained = now - self._began[0], done - self._began[1]
        parts = [f"trial {ended}/{total}", best, f"{busy}/{lanes} lanes busy"]
        if gained:
            parts.append(f"{60 * gained / seconds:.3g} trials/min")
        if self._bar:
            text = "  ".join(parts)
            self._bar.update(self._task, completed=done, total=total, text=text)
        elif now - self._last_line > 10 or ended == total:
            self._last_line = now
            if gained:
                left = timedelta(seconds=round(seconds / gained * (total - done)))
                parts.append(f"{left} left")
            print("  ".join(parts), file=sys.stderr, flush=True)


class Silent:
    """Stands in for progress and writers in all processes of a run but the one that writes."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_) -> None:
        pass

    def update(self, step: int, metrics: dict) -> None:
        """Shows nothing."""

    def write(self, record: dict) -> None:
        """Writes nothing."""


def _terminal_bar(total: int, first: int):
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.BarColumn(bar_width=24),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[text]}", markup=False),
        progress.TimeRemainingColumn(compact=True),
        progress.TextColumn("left"),
        console=Console(stderr=True),
    )
    return bar, bar.add_task("", total=total, completed=first, text="")
