"""Decide by one metric on the validation split when to stop, and which checkpoint is the best.

Both are pure functions of the records of `metrics.jsonl`, so a run that was killed and resumed
stops where it would have stopped (Prechelt, 1998; Goodfellow et al., 2016, algorithm 7.1).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from research.errors import UserError
from research.tasks import Task
from research.training import averages


class Objective(NamedTuple):
    """The metric that decides, and its direction."""

    metric: str
    higher_is_better: bool

    def score(self, record: Mapping[str, float]) -> float:
        """Return the metric of a record, with a sign that makes higher better."""
        return record[self.metric] if self.higher_is_better else -record[self.metric]


class Verdict(NamedTuple):
    """The result of judging the validation records so far."""

    new_best: bool  # the last record is better than all before
    enough: bool  # no patience is left


def check(config: ConfigDict, patience: float, validation_examples: int) -> None:
    """Refuse settings that cannot decide.

    Raises:
      UserError: patience without a validation split, or with snapshots.
    """
    if patience and not validation_examples:
        raise UserError(
            f"config.early_stopping.patience = {config.early_stopping.patience!r} needs a "
            f"validation split (config.data.validation = {config.data.validation} has none)"
        )
    if patience and config.ensemble.snapshots:
        raise UserError(
            f"config.early_stopping.patience = {config.early_stopping.patience!r} would cut off "
            f"some of config.ensemble.snapshots = {config.ensemble.snapshots} (allowed: either)"
        )


def deciding_split(config: ConfigDict) -> str:
    """Return the split whose records decide: of the averaged weights if an average is kept."""
    return "validation_averaged" if averages.kept(config) else "validation"


def objective(config: ConfigDict, task: Task) -> Objective:
    """Return what decides by `config.early_stopping.metric`; None: the task's objective.

    Raises:
      UserError: the run does not report such a metric, or it has no direction.
    """
    metric = config.early_stopping.metric or task.objective
    return Objective(metric, task.higher_is_better(metric, "config.early_stopping.metric"))


def verdict(
    config: ConfigDict, decides: Objective, records: Sequence[Mapping], patience: float
) -> Verdict:
    """Judge a run by the records of its `metrics.jsonl`.

    Args:
      config: config of the run.
      decides: the metric that decides.
      records: all records so far, in order.
      patience: in steps, not rounded: it ends at the evaluation that is nearest to it.
    """
    scores = _scores(config, decides, records)
    if not scores:
        return Verdict(new_best=False, enough=False)
    last_step, last = scores[-1]
    improved_at, _ = _improved(config, scores)
    return Verdict(
        new_best=all(value < last for _, value in scores[:-1]),
        enough=bool(patience) and last_step - improved_at > patience - 1,
    )


def message(
    config: ConfigDict,
    decides: Objective,
    records: Sequence[Mapping],
    step: int,
    total_steps: int,
) -> str:
    """Return the line that says why a run was stopped, with the keys that decided it."""
    settings, scores = config.early_stopping, _scores(config, decides, records)
    improved_at, before = _improved(config, scores)
    best = max(value for at, value in scores if at >= improved_at)
    sign = 1 if decides.higher_is_better else -1
    metric = f"{deciding_split(config)} {decides.metric}"
    patience = f"config.early_stopping.patience = {settings.patience!r}"
    if best > before:
        reason = (
            f"{metric} has improved by {best - before:.4g}, from {sign * before:.4g} to "
            f"{sign * best:.4g}, since step {improved_at}, which is not more than config."
            f"early_stopping.minimal_improvement = {settings.minimal_improvement:g}"
        )
    else:
        reason = f"{metric} has not improved on {sign * before:.4g} since step {improved_at}"
    return f"stopped early at step {step} of {total_steps}: {reason} ({patience})"


def _scores(
    config: ConfigDict, decides: Objective, records: Sequence[Mapping]
) -> list[tuple[int, float]]:
    """Return the steps and scores of the records that decide."""
    return [
        (record["step"], decides.score(record))
        for record in records
        if record["split"] == deciding_split(config) and record.get(decides.metric) is not None
    ]


def _improved(config: ConfigDict, scores: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """Return the step and the score of the last improvement that counts, else of the first."""
    improved_at, best = scores[0]
    for step, value in scores:
        if value > best + config.early_stopping.minimal_improvement:
            improved_at, best = step, value
    return improved_at, best
