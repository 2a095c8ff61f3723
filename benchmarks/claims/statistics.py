"""What paired trainings show: intervals of their differences, and verdicts on several at once.

A gain is a difference that is positive where the claim is right, one for each seed that both sides
were trained with. Student's t over the gains asks whether their mean is 0; where a claim judges
several rows, Holm (1979) corrects for their number: the chance that any row without a true
difference is called better or worse is at most 5 %.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from scipy import special

BETTER, WORSE, INCONCLUSIVE = "better", "worse", "inconclusive"
_LEVEL = 0.05


@dataclasses.dataclass(frozen=True)
class Judged:
    """What the gains of one row show."""

    mean: float
    low: float  # of the 95 % interval of the mean, of this row alone
    high: float
    p: float  # of a mean of 0, or what else was asked, corrected for the number of rows
    verdict: str  # BETTER, WORSE or INCONCLUSIVE

    def told(self, digits: int = 1, unit: float = 100) -> str:
        """'+1.2 (+0.4 to +2.0)': by default in percentage points."""
        values = (f"{unit * value:+.{digits}f}" for value in (self.mean, self.low, self.high))
        return "{} ({} to {})".format(*values)

    def cell(self, digits: int = 1, unit: float = 100) -> str:
        """'+1.2 (+0.4 to +2.0), better': for a table."""
        return f"{self.told(digits, unit)}, {self.verdict}"


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of values (n,), and the ends of its 95 % interval by Student's t; n > 1.

    NaN, all three, where a value is not finite.
    """
    values = np.asarray(values, np.float64)
    if not np.isfinite(values).all():
        return np.nan, np.nan, np.nan
    half = special.stdtrit(len(values) - 1, 1 - _LEVEL / 2) * _error(values)
    return values.mean(), values.mean() - half, values.mean() + half


def holm(p: Sequence[float]) -> np.ndarray:
    """Corrects p-values (n,) for their number: Holm (1979), step down.

    The k-th smallest becomes the largest of (n - j + 1) p_j over j <= k, at most 1.
    """
    p = np.asarray(p, np.float64)
    order = np.argsort(p)
    corrected = np.empty_like(p)
    corrected[order] = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    return np.minimum(corrected, 1)


def judged(gains: Mapping[object, np.ndarray], above: float = 0.0) -> dict[object, Judged]:
    """Judges the rows of one claim together.

    Args:
      gains: by row, the gain of each pair (pairs,), at least two. A row with gains that are not
        finite, as of a training that diverged, is inconclusive.
      above: What the mean must be above to be better, and below to be worse; minus a margin asks
        whether one side is as good as the other.
    """
    corrected = holm([_p(np.asarray(each, np.float64) - above) for each in gains.values()])
    found = {}
    for (row, each), p in zip(gains.items(), corrected, strict=True):
        mean, low, high = interval(each)
        verdict = (BETTER if mean > above else WORSE) if p < _LEVEL else INCONCLUSIVE
        found[row] = Judged(mean, low, high, float(p), verdict)
    return found


def _p(gains: np.ndarray) -> float:
    """Of a mean of 0 by a two-sided t test."""
    if not np.isfinite(gains).all():
        return 1.0
    if np.ptp(gains) == 0:  # as of two sides that are the same to the bit
        return float(gains[0] == 0)
    t = gains.mean() / _error(gains)
    return float(2 * special.stdtr(len(gains) - 1, -abs(t)))


def _error(values: np.ndarray) -> float:
    """The standard error of a mean."""
    return values.std(ddof=1) / np.sqrt(len(values))


def rows(found: Mapping[object, Judged], verdict: str) -> list:
    """The rows that have this verdict."""
    return [row for row, each in found.items() if each.verdict == verdict]


_VERDICTS = {BETTER: "Holds", WORSE: "Does not hold here", INCONCLUSIVE: "Inconclusive"}


def together(found: Mapping[object, Judged]) -> str:
    """The verdict on a claim that every one of these rows is better: how many are."""
    counts = {word: len(rows(found, word)) for word in _VERDICTS}
    for word, verdict in _VERDICTS.items():
        if counts[word] == len(found):
            return verdict
    others = ", ".join(f"{counts[word]} {word}" for word in (WORSE, INCONCLUSIVE) if counts[word])
    return f"Holds for {counts[BETTER]} of {len(found)} ({others})"


def by_part(found: Mapping[str, Judged]) -> str:
    """The verdict on a claim of several parts, whose names these are: which of them hold."""
    if len({each.verdict for each in found.values()}) == 1:
        return together(found)
    heads = {"holds in part": BETTER, "does not hold": WORSE, "inconclusive": INCONCLUSIVE}
    told = "; ".join(
        f"{head}: {', '.join(rows(found, word))}"
        for head, word in heads.items()
        if rows(found, word)
    )
    return told[0].upper() + told[1:]


def at_edge(value: float, tried: Sequence[float]) -> str:
    """'least' or 'largest' where the best value ends the range of those tried, else ''."""
    if len(tried) < 2:
        return ""
    return {min(tried): "least", max(tried): "largest"}.get(value, "")


def edges(chosen: Mapping[str, tuple[float, Sequence[float]]]) -> str:
    """A sentence, with a space before, on the best values at the edge of what was tried; else ''.

    Args:
      chosen: by row, the best value, and those it was chosen from.
    """
    found = {row: (best[0], at_edge(*best)) for row, best in chosen.items()}
    told = [f"{row} ({value:g}, the {edge})" for row, (value, edge) in found.items() if edge]
    return f" Best at the edge of what was tried: {'; '.join(told)}." if told else ""
