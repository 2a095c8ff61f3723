"""What trials report: metrics by name, and the objective, with its direction and its form in print.

Only this file and the sums of `lane.py` know metrics by name.
"""

import dataclasses
import math
import statistics

# Metrics of which more is better; all others are losses. They are shares, printed as percentages.
_HIGHER_IS_BETTER = frozenset({"accuracy"})
OBJECTIVES = ("validation_loss", "validation_accuracy")


@dataclasses.dataclass(frozen=True)
class Objective:
    """A value of `config.search.objective`."""

    name: str  # of the metric, with 'validation_' before it

    @property
    def higher_is_better(self) -> bool:
        """Return whether the search maximises the metric."""
        return self.name.removeprefix("validation_") in _HIGHER_IS_BETTER

    def score(self, value: float) -> float:
        """Return the score of a value of the metric: samplers and schedulers minimise it.

        The score of a metric to be maximised is 1 - value, so that of an accuracy is the error.
        """
        return 1 - value if self.higher_is_better else value

    def value(self, score: float) -> float:
        """Return the value of the metric that has this score."""
        return self.score(score)  # the map is its own inverse

    def text(self, value: float) -> str:
        """Return a value, or a difference of two, as it is printed."""
        return f"{value:.2%}" if self.higher_is_better else f"{value:.4f}"


def metrics_in(report: dict) -> list[str]:
    """Return the names of the metrics in a report of the ledger, such as 'validation_loss'."""
    return [name for name in report if name.startswith(("train_", "validation_"))]


@dataclasses.dataclass(frozen=True)
class Report:
    """What a trial reports at the end of a segment; lists have one entry for each of its lanes."""

    step: int
    epoch: float
    train: dict[str, list[float]]  # metrics by name: means over the segment, before each update
    validation: dict[str, list[float]]  # metrics by name on the validation split, at its end
    finite: bool  # whether all numbers of all lanes are finite

    @property
    def metrics(self) -> dict[str, list[float]]:
        """Return all metrics by their names in the ledger: 'train_loss', 'validation_loss', ..."""
        return {
            f"{split}_{name}": values
            for split in ("train", "validation")
            for name, values in getattr(self, split).items()
        }


def standard_error(values: list[float]) -> float:
    """Return the standard error of the mean of independent values.

    It is NaN for a single value, and if a value is not finite.
    """
    if len(values) < 2 or not all(map(math.isfinite, values)):
        return math.nan
    return statistics.stdev(values) / math.sqrt(len(values))
