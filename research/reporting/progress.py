"""Progress for the user: a live bar on a terminal, plain lines elsewhere."""

import math
import sys
import time
from datetime import timedelta

from research import formats


class Progress:
    """Show where training stands: epoch, loss, objective, examples a second, time left.

    Args:
      total_steps: of the training.
      steps_per_epoch: need not be a whole number.
      first_step: where a resumed run begins.
      objective: the metric that is shown beside the loss.
    """

    def __init__(
        self,
        total_steps: int,
        steps_per_epoch: float,
        first_step: int = 0,
        objective: str = "accuracy",
    ):
        self._total, self._steps_per_epoch = total_steps, steps_per_epoch
        self._first, self._started, self._shown = first_step, time.perf_counter(), {}
        self._objective = objective
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
        """Show the metrics after a dispatch.

        On a terminal the bar moves. Elsewhere a line is printed every ten seconds, after each
        validation (but at most one a second), and at the end.

        Args:
          step: the last step of the dispatch.
          metrics: by name; those of validation begin with `validation_`. Metrics of earlier calls
            stay shown.
        """
        self._shown.update(metrics)
        if self._bar:
            self._bar.update(self._task, completed=step, text=self._text(step))
            return
        now = time.perf_counter()
        pause = 1 if any(name.startswith("validation_") for name in metrics) else 10
        if now - self._last_line > pause or step == self._total:
            self._last_line = now
            print(f"{self._text(step)}  {self._left(step)} left", file=sys.stderr, flush=True)

    def _text(self, step: int) -> str:
        objective = self._objective
        epochs = self._total / self._steps_per_epoch
        epoch = step / self._steps_per_epoch
        parts = [f"epoch {epoch:.1f}/{epochs:.1f}", f"step {step}/{self._total}"]
        labels = {"loss": "loss", objective: formats.words(objective)}
        labels |= {
            f"validation_{objective}": "validation",
            f"validation_averaged_{objective}": "averaged",
        }
        for name, label in labels.items():
            value = self._shown.get(name)
            if isinstance(value, (int, float)):
                share = formats.is_share(objective, [value]) and name != "loss"
                parts.append(f"{label} {value:.2%}" if share else f"{label} {value:.4f}")
        parts.append(f"{self._shown['examples_per_second']:,.0f} examples/s")
        return "  ".join(parts)

    def _left(self, step: int) -> str:
        elapsed = time.perf_counter() - self._started
        seconds = elapsed / max(step - self._first, 1) * (self._total - step)
        return str(timedelta(seconds=round(seconds)))


class SearchProgress:
    """Show where a search stands: trials, the best so far, busy lanes, speed, time left."""

    def __init__(self):
        self._bar = self._began = None
        self._last_line = -math.inf

    def __enter__(self) -> "SearchProgress":
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, done: float, total: int, ended: int, best: str, busy: int, lanes: int) -> None:
        """Show the state of the search: on a terminal the bar moves, elsewhere lines are printed.

        Args:
          done: number of trials; a running trial counts by the share it has trained.
          total: number of trials at the end.
          ended: number of trials that have ended.
          best: the best trial so far, in words.
          busy: number of lanes that were just trained.
          lanes: number of lanes.
        """
        now = time.perf_counter()
        if self._began is None:  # a resumed search measures its own speed
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
    """Stand in for progress and writers in the processes that write nothing."""

    def __enter__(self) -> "Silent":
        return self

    def __exit__(self, *_) -> None:
        pass

    def update(self, step: int, metrics: dict) -> None:
        """Show nothing."""

    def write(self, record: dict) -> None:
        """Write nothing."""


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
