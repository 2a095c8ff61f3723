"""Messages of a run or a search: lines on the screen, events in `history.jsonl`."""

import dataclasses
import sys
from pathlib import Path

from research.reporting.records import append_history


@dataclasses.dataclass(frozen=True)
class Messages:
    """Print lines and record events. Only process 0 speaks: the others would repeat it."""

    workdir: Path
    speaking: bool = True

    def tell(self, line: str) -> None:
        """Print a line to stdout."""
        if self.speaking:
            print(line, flush=True)

    def warn(self, line: str) -> None:
        """Print a line to stderr."""
        if self.speaking:
            print(line, file=sys.stderr, flush=True)

    def record(self, event: str, step: int, **details) -> None:
        """Append an event at a step to the history, with the time and its details."""
        if self.speaking:
            append_history(self.workdir, event, step, **details)
