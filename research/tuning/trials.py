"""What a search knows: its trials, each with its numbers, what it reported, and why it ended."""

import dataclasses
import enum
import functools
import math
from typing import Any

from research.tuning.axes import trained

RUNNING, FINISHED, STOPPED, DIVERGED, REPLACED = "", "finished", "stopped", "diverged", "replaced"
METRICS = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")


class Verdict(enum.Enum):
    """What becomes of a trial that stands at the end of a piece."""

    GO, STOP, WAIT = "go", "stop", "wait"


GO, STOP, WAIT = Verdict


def pieces_of(share: float, pieces: int) -> int:
    """Return the number of pieces that a share of a duration of `pieces` pieces has."""
    return max(1, round(share * pieces))


def identity(values: dict[str, Any]) -> frozenset:
    """Return a key that is the same for values that train to the same score."""
    return frozenset((key, trained(value)) for key, value in values.items())


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Numbers to try next."""

    values: dict[str, Any]  # by key of the config; of active axes alone
    share: float = 1.0  # of the config's duration that it is to train for
    parent: int | None = None  # the trial whose state it starts from; None: from its first state

    @functools.cached_property
    def identity(self) -> frozenset:
        """Return the identity of its values."""
        return identity(self.values)


@dataclasses.dataclass
class Trial:
    """One setting of the hyper-parameters, trained `folds * repeats * seeds` times side by side."""

    number: int
    proposal: Proposal
    pieces: int  # it is to train for
    # One a piece: 'piece' (from 1), 'step', 'score' (the smaller the better, mean over its lanes),
    # 'standard_error' (NaN for one lane), and the metrics by name, each a mean over its lanes.
    reports: list[dict] = dataclasses.field(default_factory=list)
    end: str = RUNNING

    @property
    def values(self) -> dict[str, Any]:
        """Its hyper-parameters."""
        return self.proposal.values

    @property
    def score(self) -> float:
        """What it reported last, the smaller the better; NaN before its first report."""
        return self.reports[-1]["score"] if self.reports else math.nan

    @property
    def piece(self) -> int:
        """The last it reported of; 0 before its first report."""
        return self.reports[-1]["piece"] if self.reports else 0

    def reached(self, piece: int) -> bool:
        """Return whether it reported of a piece; where it diverged is the last it reported of."""
        return bool(self.reports) and self.reports[0]["piece"] <= piece <= self.piece

    def score_at(self, piece: int) -> float:
        """Return what it reported of a piece that it reached; inf once it diverged."""
        if self.end == DIVERGED and piece >= self.piece:
            return math.inf
        return self.reports[piece - self.reports[0]["piece"]]["score"]
