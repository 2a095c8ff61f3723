"""The report of one search, or of several compared: one HTML file that opens offline."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research import formats
from research.errors import UserError
from research.formats import duration, number
from research.json_files import write_text
from research.reporting import search_axes, search_plots, search_timeline
from research.reporting import search_statistics as statistics
from research.reporting.rendering import Table, render
from research.reporting.scales import Scale, last_score, scale_of, short_names
from research.reporting.search_comparison import error_shown, settings, several
from research.reporting.search_surface import surface
from research.reporting.searched import Search, read_search
from research.tuning.results import ENDS, best, command_line, overrides
from research.tuning.trials import FINISHED, REPLACED, STOPPED, Trial

_DRAWN = 1000  # trials, at most
_LISTED = 10  # trials


def is_search(folder: Path) -> bool:
    """Return whether a folder is that of a search, not of a run."""
    return (folder / "ledger.jsonl").exists()


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Draw one search, or several compared, into an HTML file.

    Raises:
      UserError: a folder without a search, searches that do not compare, or a file that cannot be
        written.
    """
    try:
        searches = [read_search(Path(folder)) for folder in folders]
        if len({search.name for search in searches}) < len(searches):  # tell a/search from b/search
            searches = [dataclasses.replace(s, name=str(s.folder)) for s in searches]
        html = _page(searches)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        names = ", ".join(map(str, folders))  # can be read, but hold something else
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{names}: damaged, it cannot be drawn ({reason})") from None
    try:
        write_text(path, html)
    except OSError as error:
        raise UserError(f"{str(path)!r}: {error.strerror}") from None


def _page(searches: Sequence[Search]) -> str:
    objectives = {search.objective.name for search in searches}
    if len(objectives) > 1:
        raise UserError(
            f"searches of {' and '.join(sorted(objectives))} do not compare "
            "(allowed: the same config.search.objective)"
        )
    title = " and ".join(search.name for search in searches)
    if len(searches) == 1:
        return render("search.html", title, **_search(searches[0]))
    return render("searches.html", title, **several(searches))


def _search(search: Search) -> dict[str, Any]:
    """Return what `search.html` shows of one search."""
    leader = best(search.trials)
    context = {**_head(search, leader), **settings([search]), "best_plots": []}
    if leader is None or not np.isfinite(leader.score):
        return context
    drawn = _drawn(search.trials, leader)
    scale = scale_of(search.objective, map(last_score, drawn))
    scores = [report["score"] for trial in drawn for report in trial.reports]
    ranked = sorted(search.trials, key=lambda trial: (trial.end != FINISHED, last_score(trial)))
    return {
        **context,
        "warnings": statistics.warnings(search),
        "best_plots": [
            search_plots.best_so_far([search], scale, over) for over in ("trials", "epochs")
        ],
        "learning_curves": search_plots.learning_curves(
            drawn, leader, scale_of(search.objective, scores), scale
        ),
        "copies": any(trial.proposal.parent is not None for trial in drawn),
        "drawn": len(drawn),
        "trials": len(search.trials),
        **_axes(search, drawn, leader, scale),
        "rounds": _rounds(search),
        "timeline": search_timeline.timeline(search),
        "stays": len(search.stays),
        "bars": search_timeline.BARS,
        "rungs": search_timeline.segments(search)
        if any(trial.end in (STOPPED, REPLACED) for trial in search.trials)
        else None,
        "best_title": f"The best {len(ranked[:_LISTED])}",
        "best_trials": _table_of_trials(search, ranked[:_LISTED], scale),
    }


def _head(search: Search, leader: Trial | None) -> dict[str, Any]:
    ended = sum(bool(trial.end) for trial in search.trials)
    tiles = []
    if leader is not None:
        report = leader.reports[-1]
        shown = _objective_shown(search, report[search.objective.name], report["standard_error"])
        tiles.append((f"best {formats.words(search.objective.name)}, trial {leader.number}", shown))
    tiles += [
        ("trials", f"{ended:,}" if search.over else f"{ended:,} of {search.total:,}"),
        ("epochs, all together", number(sum(map(search.epochs, search.trials)))),
        ("wall time, pauses included", duration(search.seconds)),
        ("lanes a trial", str(search.lanes)),
        ("programs", str(len({stay.program for stay in search.stays}))),
    ]
    tiles += [
        (end, str(count))
        for end in ENDS
        if (count := sum(trial.end == end for trial in search.trials))
    ]
    if running := len(search.trials) - ended:
        tiles.append(("running", str(running)))
    chosen = overrides(search.config, leader) if leader else {}
    path = search.folder / "best.py"
    return {
        "tiles": tiles,
        "flags": [command_line({key: value}) for key, value in chosen.items()],
        "command": f"python -m research.main --config={path}" if path.exists() else "",
    }


def _axes(search: Search, drawn: Sequence[Trial], leader: Trial, scale: Scale) -> dict[str, Any]:
    shares = statistics.importances(search.trials, search.folder / "optuna_journal.log")
    finished = len(statistics.longest(search.trials))
    return {
        "importances": search_axes.importances(search, shares) if shares else None,
        "enough_for_importances": finished >= statistics.FEWEST_FOR_IMPORTANCES,
        "fewest_for_importances": statistics.FEWEST_FOR_IMPORTANCES,
        "slices": search_axes.slices(search, drawn, leader, scale),
        "conditions": any(axis.when for axis in search.space.axes),
        "parallel_coordinates": search_axes.parallel_coordinates(search, drawn, scale),
        "surface": _surface(search, drawn, leader, scale, shares),
        "best_number": leader.number,
    }


def _surface(search: Search, drawn: Sequence[Trial], leader: Trial, scale: Scale, shares: dict):
    """Return what is drawn of a surrogate; None if there are too few trials or axes."""
    fitted = surface(search.space, search.trials, leader, shares)
    if fitted is None:
        return None
    return {
        "plots": search_axes.surfaces(fitted, drawn, leader, scale),
        "measured": bool(shares),
        "axes": [
            (axis.key, f"{share:.0%}")
            for axis, share in zip(fitted.axes, fitted.shares, strict=True)
        ],
        "others": ", ".join(f"{k} = {_value_shown(v)}" for k, v in fitted.others.items()),
    }


def _rounds(search: Search) -> dict[str, Any] | None:
    if search.config.search.method != "coarse_to_fine":
        return None
    from research.tuning import methods

    rounds = methods.rounds(search.config.search, search.space, search.trials)
    lines = [line for done in rounds for line in done.warnings()]
    return {"plots": search_axes.boxes(search, rounds), "warnings": lines}


def _table_of_trials(search: Search, trials: Sequence[Trial], scale: Scale) -> Table:
    rows = [
        [
            trial.number,
            scale.shown(last_score(trial)),
            error_shown(search, trial.reports[-1]["standard_error"]) if trial.reports else "",
            trial.end or "running",
            number(search.epochs(trial)),
            *(_value_shown(trial.values.get(key, "")) for key in search.space.keys),
        ]
        for trial in trials
    ]
    names = short_names(search.space).values()
    heads = ("trial", "score", "standard error", "end", "epochs", *names)
    return Table(heads, rows, numbers_from=1)


def _drawn(trials: Sequence[Trial], leader: Trial) -> list[Trial]:
    """Return all trials, or of many the best and others evenly spread over the ranks."""
    if len(trials) <= _DRAWN:
        return list(trials)
    ranked = sorted(trials, key=last_score)
    places = np.linspace(0, len(ranked) - 1, _DRAWN).astype(int)
    kept = {ranked[place].number for place in places} | {leader.number}
    return [trial for trial in trials if trial.number in kept]


def _objective_shown(search: Search, value: float, error: float) -> str:
    shown = formats.shown(search.objective.name, value)
    return f"{shown} \u00b1 {error_shown(search, error)}" if np.isfinite(error) else shown


def _value_shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
