"""Regression: each example has K numbers."""

import numpy as np

from research.errors import UserError
from research.tasks import metrics
from research.tasks.task import Task

_DRAWN = 2000  # examples in a picture


class Regression(Task):
    """K numbers for each example. Targets are standardised, float32 (B, K).

    They have mean 0 and standard deviation 1 over train, so that one learning rate fits every unit.
    `loss` is in these units; metrics and predictions are in the user's.
    """

    kind = "numbers"
    losses = ("mean_squared_error", "mean_absolute_error", "huber", "quantile")
    known_metrics = {found.name: found for found in (metrics.rmse, metrics.mae, metrics.r2)}
    default_metrics = ("rmse", "mae", "r2")

    def __init__(self, config, names):
        """Resolve names.

        Raises:
          UserError: as `Task`; label smoothing, which numbers do not have.
        """
        super().__init__(config, names)
        if config.loss.label_smoothing:
            raise UserError(
                f"config.loss.label_smoothing = {config.loss.label_smoothing:g} is for classes "
                "(allowed with config.task.name = 'regression': 0)"
            )

    def statistics(self, labels):
        """Return 'mean' and 'deviation' of each target over train, float32 (K,); 1 if constant."""
        numbers = labels.astype(np.float64)
        deviation = numbers.std(0)
        rounding = np.finfo(np.float32).eps * np.abs(numbers).max(0, initial=0)
        deviation = np.where(deviation > rounding, deviation, 1.0)
        return {
            "mean": numbers.mean(0).astype(np.float32),
            "deviation": deviation.astype(np.float32),
        }

    def targets(self, labels, statistics):
        """Return (labels - mean) / deviation."""
        return (labels - statistics["mean"]) / statistics["deviation"]

    def natural(self, values, statistics):
        """Return standardised values in the user's unit."""
        return values * statistics["deviation"] + statistics["mean"]

    def metrics(self, outputs, targets, mask, statistics):
        """Return the metrics of a batch; R2, which has no unit, from standardised values."""
        found = super().metrics(outputs, targets, mask, statistics)
        if "r2" in found:
            found["r2"] = metrics.r2(outputs, targets, mask)
        return found

    def score(self, outputs, labels, statistics):
        """Return 'labels' and 'predicted', float64 (n, K), and the 'loss' (n,)."""
        predicted = np.asarray(outputs, np.float64).mean(0)
        labels, offset = np.asarray(labels, np.float64), _offset(statistics)
        outputs, targets = (
            np.asarray(self.targets(np.float32(values - offset), statistics))
            for values in (predicted, labels)
        )
        return {
            "labels": labels,
            "predicted": predicted,
            "loss": np.asarray(self._loss(outputs, targets, None), np.float64),
        }

    def figures(self, scores):
        """Return 'rmse' and 'mae' in the targets' unit, 'r2', and the 'loss'."""
        errors = scores["predicted"] - scores["labels"]
        spread = np.square(scores["labels"] - scores["labels"].mean(0)).sum(0)
        with np.errstate(invalid="ignore", divide="ignore"):
            r2 = np.where(spread > 0, 1 - np.square(errors).sum(0) / spread, np.nan)
        return {
            "rmse": float(np.sqrt(np.square(errors).mean())),
            "mae": float(np.abs(errors).mean()),
            "r2": float(r2.mean()),
            "loss": float(scores["loss"].mean()),
        }

    def beside(self, scores):
        """Return 'rmse_of', by target, where there are several."""
        if self.outputs == 1:
            return {}
        errors = np.sqrt(np.square(scores["predicted"] - scores["labels"]).mean(0))
        return {"rmse_of": dict(zip(self.names, map(float, errors), strict=True))}

    def pictures(self, scores, split, load):
        """Return 'regression_names' (K,), 'regression_targets' and '_predictions' (n, K).

        At most 2,000 examples, evenly spaced.
        """
        count = len(scores["labels"])
        rows = np.linspace(0, count - 1, min(count, _DRAWN), dtype=int)
        return {
            "regression_names": np.array(self.names),
            "regression_targets": scores["labels"][rows],
            "regression_predictions": scores["predicted"][rows],
        }


def _offset(statistics) -> np.ndarray:
    """Return what was subtracted from the targets, float64, or 0 (data/offsets.py)."""
    return np.asarray(statistics.get("offset", [0.0])).sum(0, dtype=np.float64)


build = Regression
