"""Early stopping, and which checkpoint is the best: by one metric on the validation split.

Both are pure functions of the records of `metrics.jsonl`, so that a run that was killed and resumed
stops where it would have stopped (Prechelt, 1998; Goodfellow et al., 2016, algorithm 7.1).
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ml_collections import ConfigDict

from research.errors import UserError
from research.training import averages

_SIGNS = {"accuracy": 1, "loss": -1}


class Verdict(NamedTuple):
    """What the validation records so far say."""

    new_best: bool  # the last one is better than all before
    enough: bool  # none of the patience is left


def check(config: ConfigDict, patience: float, validation_examples: int) -> None:
    """Refuses what cannot be decided by.

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
    """Whose records decide: those of the averaged weights where an average is kept."""
    return "validation_averaged" if averages.kept(config) else "validation"


def score(config: ConfigDict, record: Mapping[str, float]) -> float:
    """Of {'loss', 'accuracy'}: higher is better."""
    metric = config.early_stopping.metric
    return _SIGNS[metric] * record[metric]


def verdict(config: ConfigDict, records: Sequence[Mapping], patience: float) -> Verdict:
    """Judges a run by the records of its `metrics.jsonl`.

    Args:
      config: of the run.
      records: all so far, in order.
      patience: in steps, not rounded: it ends at the evaluation that is nearest to it.
    """
    found = _scores(config, records)
    if not found:
        return Verdict(new_best=False, enough=False)
    last_step, last = found[-1]
    improved_at, _ = _improved(config, found)
    return Verdict(
        new_best=all(value < last for _, value in found[:-1]),
        enough=bool(patience) and last_step - improved_at > patience - 1,
    )


def told(config: ConfigDict, records: Sequence[Mapping], step: int, total_steps: int) -> str:
    """The line for the screen: what was seen, and the keys that made it enough."""
    settings, found = config.early_stopping, _scores(config, records)
    improved_at, before = _improved(config, found)
    best = max(value for at, value in found if at >= improved_at)
    sign, metric = _SIGNS[settings.metric], f"{deciding_split(config)} {settings.metric}"
    patience = f"config.early_stopping.patience = {settings.patience!r}"
    if best > before:
        seen = (
            f"{metric} has improved by {best - before:.4g}, from {sign * before:.4g} to "
            f"{sign * best:.4g}, since step {improved_at}, which is not more than config."
            f"early_stopping.minimal_improvement = {settings.minimal_improvement:g}"
        )
    else:
        seen = f"{metric} has not improved on {sign * before:.4g} since step {improved_at}"
    return f"stopped early at step {step} of {total_steps}: {seen} ({patience})"


def _scores(config: ConfigDict, records: Sequence[Mapping]) -> list[tuple[int, float]]:
    """Steps and scores of the records that decide."""
    return [
        (record["step"], score(config, record))
        for record in records
        if record["split"] == deciding_split(config)
        and record.get(config.early_stopping.metric) is not None
    ]


def _improved(config: ConfigDict, scores: Sequence[tuple[int, float]]) -> tuple[int, float]:
    """The step, and the score, of the last improvement that counts; of the first score at least."""
    improved_at, best = scores[0]
    for step, value in scores:
        if value > best + config.early_stopping.minimal_improvement:
            improved_at, best = step, value
    return improved_at, best
