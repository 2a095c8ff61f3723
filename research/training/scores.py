"""Score the predictions of a test: a few numbers for each example, and figures of them.

Outputs of a whole split may not fit into memory. They come in parts, and only the task's scores are
kept of each part.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from research.tasks import Task


def scored_in_parts(
    task: Task, parts: Iterable[tuple[np.ndarray, np.ndarray]], statistics: Mapping
) -> tuple[list[dict], dict]:
    """Return the scores of each network alone, and of the averaged predictions.

    Args:
      task: the task.
      parts: pairs of outputs (networks, n, ...) and labels (n, ...).
      statistics: of the targets, from `Task.statistics`.
    """
    scored = [
        (
            [task.score(alone[None], labels, statistics) for alone in outputs],
            task.score(outputs, labels, statistics),
        )
        for outputs, labels in parts
    ]
    each = [_joined(parts) for parts in zip(*(alone for alone, _ in scored), strict=True)]
    return each, _joined([together for _, together in scored])


def _joined(parts: Sequence[Mapping]) -> dict:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def compared(task: Task, each: Sequence[Mapping], together: Mapping, names: Sequence[dict]) -> dict:
    """Return the figures of an ensemble beside those of its members.

    Args:
      task: the task.
      each: the scores of each member alone.
      together: the scores of the averaged predictions.
      names: what distinguishes the members, such as [{'seed': 0}, ...].

    Returns:
      'test_<figure>' of the ensemble; 'members', the same figures of each member; 'members_mean'
      and 'members_spread', the mean and standard deviation (n - 1) of these figures.
    """
    alone = [of_test(task.figures(scores)) for scores in each]
    columns = {key: [figures[key] for figures in alone] for key in alone[0]}
    return {
        **of_test(task.figures(together)),
        "members": [{**name, **figures} for name, figures in zip(names, alone, strict=True)],
        "members_mean": {key: float(np.mean(column)) for key, column in columns.items()},
        "members_spread": {key: float(np.std(column, ddof=1)) for key, column in columns.items()},
    }


def of_test(figures: Mapping) -> dict:
    """Return the figures under their names in `summary.json`."""
    return {f"test_{name}": value for name, value in figures.items()}
