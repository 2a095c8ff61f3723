"""What a report says of several searches side by side; one alone is the simplest case."""

import dataclasses
from collections.abc import Callable, Sequence
from html import escape

import numpy as np

from research.reporting import search_plots
from research.reporting.document import duration, number, table, values
from research.reporting.scales import Scale, last_score, scale_of
from research.reporting.searched import Search
from research.tuning.results import best


def several(searches: Sequence[Search], figure: Callable[[dict], str]) -> list[str]:
    """The body of their report: what each came to, with all it had and with the least budget."""
    finals = [last_score(trial) for search in searches for trial in search.trials]
    if not np.isfinite(finals).any():
        return ["<p>No trial has a score yet, or all diverged.</p>", *settings(searches)]
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
        found = best(search.trials)
        told = [min(scores[:trials]), min(within, default=np.inf), min(scores)]
        rows.append(
            [
                search.name,
                search.settings["method"],
                search.settings["scheduler"],
                len(search.trials),
                number(float(spent[-1])),
                duration(search.seconds),
                *(scale.told(x) if np.isfinite(x) else "none" for x in told),
                error_told(search, found.reports[-1]["standard_error"]) if found else "",
            ]
        )  # fmt: skip
    heads = ("search", "method", "scheduler", "trials", "epochs", "time",
             f"best of {trials:,} trials", f"best of {number(epochs)} epochs", "best",
             "standard error")  # fmt: skip
    body = [f"<h2>Result</h2>{table(heads, rows, numbers_from=3)}"]
    body.append(f"<p>Scores: {escape(scale.title)}; less is better.</p>")
    return [*body, best_so_far(searches, scale, figure), *settings(searches)]


def best_so_far(searches: Sequence[Search], scale: Scale, figure: Callable[[dict], str]) -> str:
    """Their curves over trials and over epochs."""
    parts = ["<h2>Best so far</h2>"]
    parts.append('<div class="grid">')
    parts += [
        figure(search_plots.best_so_far(searches, scale, over)) for over in ("trials", "epochs")
    ]
    parts.append("</div><p>The least score that trials came to, finished or stopped, in order of")
    parts.append("their numbers, each with the epochs it trained.")
    if len(searches) == 1:
        parts.append("Points that are filled were trained to their end.")
    parts.append("The band is a bootstrap, 5 to 95 %,")
    parts.append(
        "dotted the median: the same trials drawn with replacement, and so the luck of the"
    )
    parts.append(
        "draw alone. A method that learns is above it at first: its good trials come late."
    )
    if len(searches) > 1:
        parts.append("Dashed: the least budget of them all, up to which they compare.")
    return "\n".join([*parts, "</p>"])


def settings(searches: Sequence[Search]) -> list[str]:
    """What they were asked for, and where they ran."""
    columns = [search.settings for search in searches]
    keys = list(dict.fromkeys(key for column in columns for key in column))
    heads = (
        ("key", *(search.name for search in searches)) if len(searches) > 1 else ("key", "value")
    )
    parts = [f"<h2>config.search</h2>{values(heads, keys, columns)}"]
    environments = [search.environment for search in searches]
    keys = list(dict.fromkeys(key for column in environments for key in column))
    return [*parts, f"<h2>Environment</h2>{values(heads, keys, environments)}"]


def error_told(search: Search, error: float) -> str:
    """A standard error as text; '' where there is none."""
    if not np.isfinite(error):
        return ""
    return f"{error:.2%}" if "accuracy" in search.objective else f"{error:.2g}"
