"""The records of a search: proposals, trials, and the training state of a trial."""

import dataclasses
import enum
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from research.tuning.axes import trained

# How a trial ended.
RUNNING, FINISHED, STOPPED, DIVERGED, REPLACED = "", "finished", "stopped", "diverged", "replaced"


class Verdict(enum.Enum):
    """A scheduler's decision about a trial at the end of a segment."""

    GO, STOP, WAIT = "go", "stop", "wait"


GO, STOP, WAIT = Verdict


def segments_of(share: float, segments: int) -> int:
    """Return the number of segments in a share of a training of `segments` segments."""
    return max(1, round(share * segments))


def identity(values: dict[str, Any]) -> frozenset:
    """Return a key that is equal for values that train to the same score."""
    return frozenset((key, trained(value)) for key, value in values.items())


@dataclasses.dataclass(frozen=True)
class Proposal:
    """Hyper-parameters to try next."""

    values: dict[str, Any]  # by key of the config; of active axes only
    share: float = 1.0  # of the config's duration that the trial trains for
    parent: int | None = None  # the trial whose state it continues; None: a new initial state

    @functools.cached_property
    def identity(self) -> frozenset:
        """Return the identity of its values."""
        return identity(self.values)


@dataclasses.dataclass
class Trial:
    """One setting of the hyper-parameters, trained in `folds * repeats * seeds` lanes."""

    number: int
    proposal: Proposal
    segments: int  # the number that it trains for, if nothing stops it
    # One for each segment: 'segment' (from 1), 'step', 'score' (to be minimised, the mean over its
    # lanes), 'standard_error' (NaN for one lane), and means of the metrics over its lanes by name.
    reports: list[dict] = dataclasses.field(default_factory=list)
    end: str = RUNNING

    @property
    def values(self) -> dict[str, Any]:
        """Return its hyper-parameters."""
        return self.proposal.values

    @property
    def score(self) -> float:
        """Return its last score, smaller is better; NaN before its first report."""
        return self.reports[-1]["score"] if self.reports else math.nan

    @property
    def segment(self) -> int:
        """Return the last segment that it reported; 0 before its first report."""
        return self.reports[-1]["segment"] if self.reports else 0

    def reached(self, segment: int) -> bool:
        """Return whether it reported this segment; a diverged trial reports one last time."""
        return bool(self.reports) and self.reports[0]["segment"] <= segment <= self.segment

    def score_at(self, segment: int) -> float:
        """Return its score at a segment that it reached; infinite once it diverged."""
        if self.end == DIVERGED and segment >= self.segment:
            return math.inf
        return self.reports[segment - self.reports[0]["segment"]]["score"]

    @property
    def outcome(self) -> float:
        """Return the score that it ended with; NaN if it diverged or still runs."""
        return math.nan if self.end in (RUNNING, DIVERGED) else self.score


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the ended trial with the lowest score of those that trained longest; None without one.

    The last score of a trial that was stopped is of a shorter training, and losses may rise later.
    The earliest of equal trials is the best.
    """
    ended = [trial for trial in trials if math.isfinite(trial.outcome)]
    return min(ended, key=lambda trial: (-trial.segment, trial.outcome), default=None)


@dataclasses.dataclass(frozen=True)
class TrialState:
    """The training state of a trial in a population."""

    values: dict[str, float]  # traced hyper-parameters, by key of the config
    segments: int  # the length that its schedule is laid out for
    done: int = 0  # segments
    lanes: list[dict[str, np.ndarray]] | None = None  # packed, on the host; None: on the device
