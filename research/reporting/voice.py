"""What a run says: on the screen, and in `history.jsonl`."""

import dataclasses
import sys
from pathlib import Path

from research.reporting.records import append_history


@dataclasses.dataclass(frozen=True)
class Voice:
    """Of one process; all but the first are silent, for they would say the same."""

    workdir: Path
    speaking: bool = True

    def tell(self, line: str) -> None:
        """To stdout."""
        if self.speaking:
            print(line, flush=True)

    def warn(self, line: str) -> None:
        """To stderr."""
        if self.speaking:
            print(line, file=sys.stderr, flush=True)

    def record(self, event: str, step: int, **details) -> None:
        """To the history: when, what, at which step."""
        if self.speaking:
            append_history(self.workdir, event, step, **details)
