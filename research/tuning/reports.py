"""Define what trials report: metrics by name, and the objective with its direction and scores."""

import dataclasses
import math
import statistics

from ml_collections import ConfigDict

from research import formats
from research.errors import UserError, unknown_name


@dataclasses.dataclass(frozen=True)
class Objective:
    """The metric that a search improves: `config.search.objective`, and its direction."""

    name: str  # of the metric, with 'validation_' before it
    higher_is_better: bool

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Objective":
        """Return the objective of a search.

        Args:
          config: a training config with a section `search`.

        Raises:
          UserError: the task reports no such metric, or a metric without a direction.
        """
        from research import tasks  # imports jax, which a report does not need

        directions = {f"validation_{name}": up for name, up in tasks.directions(config).items()}
        name = config.search.objective
        if name not in directions:
            raise unknown_name("config.search.objective", name, directions)
        return cls(name, directions[name])

    @classmethod
    def from_ledger(cls, line: dict) -> "Objective":
        """Return the objective by the first line of a ledger.

        The user's own metrics are not imported for it. Older ledgers, which say no direction, have
        losses and accuracies only.
        """
        name = line["config"]["search"]["objective"]
        return cls(name, bool(line.get("higher_is_better", name == "validation_accuracy")))

    def score(self, value: float) -> float:
        """Return the score of a value of the metric: samplers and schedulers minimise it.

        It is 1 - value for shares of which more is better: the score of an accuracy is the error.
        It is -value for other metrics of which more is better, such as R2.
        """
        if not self.higher_is_better:
            return value
        return 1 - value if formats.is_share(self.name) else -value

    @property
    def title(self) -> str:
        """Return the score in words: 'validation loss', '1 - validation accuracy'."""
        words = formats.words(self.name)
        if not self.higher_is_better:
            return words
        return f"1 - {words}" if formats.is_share(self.name) else f"-{words}"

    def value(self, score: float) -> float:
        """Return the value of the metric that has this score."""
        return self.score(score)  # the map is its own inverse

    def of(self, report: "Report") -> list[float]:
        """Return the scores of the lanes of a trial.

        Raises:
          UserError: the metric is not one number, as a metric of the user's own may be.
        """
        if self.name not in report.metrics:
            raise UserError(
                f"config.search.objective = {self.name!r} is not one number (allowed: "
                f"{', '.join(name for name in report.metrics if name.startswith('validation_'))})"
            )
        return [self.score(value) for value in report.metrics[self.name]]


def metrics_in(report: dict) -> list[str]:
    """Return the names of the metrics in a report of the ledger, such as 'validation_loss'."""
    return [name for name in report if name.startswith(("train_", "validation_"))]


@dataclasses.dataclass(frozen=True)
class Report:
    """Report of a trial at the end of a segment; lists have one entry for each of its lanes."""

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
