"""The objective of a search: a metric of the validation split, its direction and its form in print.

This file is the only one in `tuning` that knows metrics by name.
"""

import dataclasses

# Metrics of which more is better; all others are losses. They are shares, printed as percentages.
_HIGHER_IS_BETTER = frozenset({"accuracy"})
NAMES = ("validation_loss", "validation_accuracy")


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
