"""The report of several searches side by side, at equal budgets."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from research import formats
from research.formats import duration, number
from research.reporting import search_plots
from research.reporting.rendering import Table, values
from research.reporting.scales import last_score, scale_of
from research.reporting.searched import Search
from research.tuning.results import best


def several(searches: Sequence[Search]) -> dict[str, Any]:
    """Return what `searches.html` shows: the results, with all trials and at the least budget."""
    context = {**settings(searches), "result": None}
    finals = [last_score(trial) for search in searches for trial in search.trials]
    if not np.isfinite(finals).any():
        return context
    curves = [np.minimum.accumulate(list(map(last_score, search.trials))) for search in searches]
    scale = scale_of(searches[0].objective, np.concatenate(list(map(np.unique, curves))))
    worst = max(curve[-1] for curve in curves if np.isfinite(curve[-1]))
    scale = dataclasses.replace(scale, ceiling=max(scale.ceiling, worst))
    trials = min(len(search.trials) for search in searches)
    epochs = min(sum(map(search.epochs, search.trials)) for search in searches)
    rows = []
    for search in searches:
        scores = np.array(list(map(last_score, search.trials)))
        spent = np.cumsum([search.epochs(trial) for trial in search.trials])
        within = scores[spent <= epochs * (1 + 1e-9)]
        leader = best(search.trials)
        lowest = [min(scores[:trials]), min(within, default=np.inf), min(scores)]
        rows.append(
            [
                search.name,
                search.settings["method"],
                search.settings["scheduler"],
                len(search.trials),
                number(float(spent[-1])),
                duration(search.seconds),
                *(scale.shown(score) if np.isfinite(score) else "none" for score in lowest),
                error_shown(search, leader.reports[-1]["standard_error"]) if leader else "",
            ]
        )  # fmt: skip
    heads = ("search", "method", "scheduler", "trials", "epochs", "time",
             f"best of {trials:,} trials", f"best of {number(epochs)} epochs", "best",
             "standard error")  # fmt: skip
    return {
        **context,
        "result": Table(heads, rows, numbers_from=3),
        "score": scale.title,
        "best_plots": [
            search_plots.best_so_far(searches, scale, over) for over in ("trials", "epochs")
        ],
    }


def settings(searches: Sequence[Search]) -> dict[str, Table]:
    """Return the tables of the settings of searches, and of where they ran."""
    names = [search.name for search in searches]
    heads = ("key", *names) if len(searches) > 1 else ("key", "value")
    return {
        "settings": values(heads, [search.settings for search in searches]),
        "environment": values(heads, [search.environment for search in searches]),
    }


def error_shown(search: Search, error: float) -> str:
    """Return a standard error as text; '' if it is not known."""
    if not np.isfinite(error):
        return ""
    return f"{error:.2%}" if formats.is_share(search.objective.name) else f"{error:.2g}"
