"""The report of one search, or of several compared: one HTML file that opens offline."""

import dataclasses
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from research.errors import UserError
from research.reporting import search_axes, search_plots, search_timeline
from research.reporting import search_statistics as statistics
from research.reporting.document import Figures, document, duration, number, table, tiles
from research.reporting.scales import Scale, last_score, scale_of, short_names
from research.reporting.search_comparison import best_so_far, error_told, settings, several
from research.reporting.search_surface import Surface, surface
from research.reporting.searched import Search, read_search
from research.reporting.writers import write_text
from research.tuning.results import ENDS, best, command_line, overrides
from research.tuning.trials import FINISHED, REPLACED, STOPPED, Trial

_DRAWN = 1000  # trials, at most
_LISTED = 10  # trials


def is_search(folder: Path) -> bool:
    """Whether it is the folder of a search, and not of a run."""
    return (folder / "ledger.jsonl").exists()


def write_report(folders: Sequence[Path], path: Path) -> None:
    """Draws one search, or several compared, into an HTML file.

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
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"{names}: damaged, it cannot be drawn ({what})") from None
    try:
        write_text(path, html)
    except OSError as error:
        raise UserError(f"{str(path)!r}: {error.strerror}") from None


def _page(searches: Sequence[Search]) -> str:
    objectives = {search.objective for search in searches}
    if len(objectives) > 1:
        raise UserError(
            f"searches of {' and '.join(sorted(objectives))} do not compare "
            "(allowed: the same config.search.objective)"
        )
    figure = Figures()
    body = _one(searches[0], figure) if len(searches) == 1 else several(searches, figure)
    return document(" and ".join(search.name for search in searches), body, figure)


def _one(search: Search, figure: Callable[[dict], str]) -> list[str]:
    found = best(search.trials)
    body = [_head(search, found)]
    if found is None or not np.isfinite(found.score):
        return [*body, "<p>No trial has a score yet, or all diverged.</p>", *settings([search])]
    drawn = _drawn(search.trials, found)
    scale = scale_of(search.objective, map(last_score, drawn))
    body += [_warnings(search), best_so_far([search], scale, figure)]
    body += [_curves(search, drawn, found, scale, figure)]
    body += [_axes(search, drawn, found, scale, figure), _rounds(search, figure)]
    body += [_course(search, figure)]
    body += [_table_of_the_best(search, scale), *settings([search])]
    return body


def _head(search: Search, found: Trial | None) -> str:
    ended = sum(bool(trial.end) for trial in search.trials)
    shown = []
    if found is not None:
        report = found.reports[-1]
        told = _objective_told(search, report[search.objective], report["standard_error"])
        shown.append((f"best {search.objective.replace('_', ' ')}, trial {found.number}", told))
    shown += [
        ("trials", f"{ended:,}" if search.over else f"{ended:,} of {search.total:,}"),
        ("epochs, all together", number(sum(map(search.epochs, search.trials)))),
        ("wall time, pauses included", duration(search.seconds)),
        ("lanes a trial", str(search.lanes)),
        ("programs", str(len({stay.program for stay in search.stays}))),
    ]
    shown += [
        (end, str(count))
        for end in ENDS
        if (count := sum(trial.end == end for trial in search.trials))
    ]
    if running := len(search.trials) - ended:
        shown.append(("running", str(running)))
    head = tiles(shown)
    if found is not None:
        flags = [command_line({k: v}) for k, v in overrides(search.config, found).items()]
        line = " ".join(f'<span class="flag">{escape(flag)}</span>' for flag in flags)
        head += f"<p>The best trial's values, as flags to paste:</p><pre>{line}</pre>"
    if (search.folder / "best.py").exists():
        command = f"python -m research.main --config={search.folder / 'best.py'}"
        head += f"<p>The same, trained and tested:</p><pre>{escape(command)}</pre>"
    return head


def _warnings(search: Search) -> str:
    lines = statistics.warnings(search)
    return "".join(f'<p class="warning">{escape(line)}</p>' for line in lines)


def _curves(search: Search, drawn: Sequence[Trial], found: Trial, scale: Scale, figure) -> str:
    every = scale_of(
        search.objective,
        [report["score"] for trial in drawn for report in trial.reports],
    )
    parts = ["<h2>Learning curves</h2>"]
    parts.append(figure(search_plots.learning_curves(drawn, found, every, scale)))
    parts.append(
        "<p>Each trial's score after each segment; each colour is a tenth of the trials, by"
    )
    parts.append("where they ended. Thin: not trained to their end. What is at the")
    parts.append("upper edge lies there or above.")
    if any(trial.proposal.parent is not None for trial in drawn):
        parts.append("A copy begins where the trial was copied whose state it took over.")
    if len(drawn) < len(search.trials):
        parts.append(f"Here and below {len(drawn):,} of {len(search.trials):,} trials are drawn,")
        parts.append("evenly spread over their ranks.")
    return "\n".join([*parts, "</p>"])


def _axes(search: Search, drawn: Sequence[Trial], found: Trial, scale: Scale, figure) -> str:
    shares = statistics.importances(search.trials, search.folder / "optuna_journal.log")
    parts = ["<h2>Importance of the axes</h2>"]
    if shares:
        parts.append(figure(search_axes.importances(search, shares)))
        parts.append(
            "<p>How much each axis decides whether a finished trial is among the best tenth of"
        )
        parts.append("those trained as long as any: PED-ANOVA (Watanabe et al., 2023).</p>")
    elif len(statistics.longest(search.trials)) >= statistics.FEWEST_FOR_IMPORTANCES:
        parts.append("<p>Left out: too many trials came to the same score for any axis to decide")
        parts.append("which are the best, or there is no <code>optuna_journal.log</code>.</p>")
    else:
        parts.append(
            f"<p>Left out: {statistics.FEWEST_FOR_IMPORTANCES} trials trained to their end, as long"
        )
        parts.append("as any, are needed, in <code>optuna_journal.log</code>.</p>")
    parts.append("<h2>Slices</h2>")
    parts.append('<div class="grid">')
    parts += map(figure, search_axes.slices(search, drawn, found, scale))
    parts.append("</div><p>Filled circles: finished; open: stopped before; diamonds: replaced;")
    parts.append("crosses: diverged. What is at the upper edge lies there or above. Circled: the")
    parts.append("best. Where one word stands for a column, points are spread over its width.")
    if any(axis.when for axis in search.space.axes):
        parts.append("An axis with a condition has the trials that meet it.")
    parts.append("</p>")
    parts.append("<h2>Parallel coordinates</h2>")
    parts.append(figure(search_axes.parallel_coordinates(search, drawn, scale)))
    parts.append("<p>Dark: the best. Drag along an axis to choose a range, drag its name to move")
    parts.append("it.</p>")
    if found_surface := surface(search.space, search.trials, found, shares):
        parts.append("<h2>What a surrogate expects</h2>")
        parts.append('<div class="grid">')
        parts += map(figure, search_axes.surfaces(found_surface, drawn, found, scale))
        parts.append(f"</div><p>{_surface_told(found_surface, found, bool(shares))}</p>")
    return "\n".join(parts)


def _surface_told(surface: Surface, best: Trial, measured: bool) -> str:
    """What is drawn of a surrogate, and why these two axes."""
    first, second = (
        f"<code>{escape(axis.key)}</code> ({share:.0%})"
        for axis, share in zip(surface.axes, surface.shares, strict=True)
    )
    why = "importance above" if measured else "effect on what it expects"
    lines = [
        "Left: the score that a Gaussian process over all trials expects, each taken with its last",
        "score, however long it trained. Right: how unsure it is; 1 is the deviation of all",
        "scores, on the scale it works on. It has learnt all axes; drawn",
        f"are the two of the largest {why}, {first} and {second}.",
    ]
    if surface.others:
        told = ", ".join(f"{key} = {_value_told(value)}" for key, value in surface.others.items())
        lines.append(f"The others stay where the best trial, {best.number}, has them:")
        lines.append(f"<code>{escape(told)}</code>.")
    lines.append("Points: trials, whatever their other values; the large one is the best.")
    return "\n".join(lines)


def _rounds(search: Search, figure) -> str:
    if search.config.search.method != "coarse_to_fine":
        return ""
    from research.tuning import methods

    rounds = methods.rounds(search.config.search, search.space, search.trials)
    parts = ["<h2>Rounds, from coarse to fine</h2>", '<div class="grid">']
    parts += map(figure, search_axes.boxes(search, rounds))
    parts.append("</div><p>The range of each round, its trials and the best of them.</p>")
    lines = (line for found in rounds for line in found.warnings())
    parts += [f'<p class="warning">{escape(line)}</p>' for line in lines]
    return "\n".join(parts)


def _course(search: Search, figure) -> str:
    parts = ["<h2>Slots</h2>", figure(search_timeline.timeline(search))]
    parts.append("<p>A bar is a trial in its slot, with its number; its colour says how it ended.")
    parts.append("Where one ends, or has to wait for others, its slot is given the next one; one")
    parts.append("that waited goes on in any slot, with another bar.</p>")
    if len(search.stays) > search_timeline.BARS:
        parts.append(f"<p>Drawn are the first {search_timeline.BARS:,} of its")
        parts.append(f"{len(search.stays):,} bars.</p>")
    if any(trial.end in (STOPPED, REPLACED) for trial in search.trials):
        parts += ["<h2>Rungs</h2>", figure(search_timeline.segments(search))]
        parts.append("<p>How many trials came to the end of each segment, and what became of them")
        parts.append("there.</p>")
    return "\n".join(parts)


def _table_of_the_best(search: Search, scale: Scale) -> str:
    first = sorted(search.trials, key=lambda t: (t.end != FINISHED, last_score(t)))[:_LISTED]
    keys = search.space.keys
    rows = [
        [
            trial.number,
            scale.told(last_score(trial)),
            error_told(search, trial.reports[-1]["standard_error"]) if trial.reports else "",
            trial.end or "running",
            number(search.epochs(trial)),
            *(_value_told(trial.values.get(key, "")) for key in keys),
        ]
        for trial in first
    ]
    heads = (
        "trial",
        "score",
        "standard error",
        "end",
        "epochs",
        *short_names(search.space).values(),
    )
    return f"<h2>The best {len(rows)}</h2>{table(heads, rows, numbers_from=1)}"


def _drawn(trials: Sequence[Trial], found: Trial) -> list[Trial]:
    """All of them, or the best and others evenly over the ranks."""
    if len(trials) <= _DRAWN:
        return list(trials)
    ranked = sorted(trials, key=last_score)
    places = np.linspace(0, len(ranked) - 1, _DRAWN).astype(int)
    kept = {ranked[place].number for place in places} | {found.number}
    return [trial for trial in trials if trial.number in kept]


def _objective_told(search: Search, value: float, error: float) -> str:
    told = f"{value:.2%}" if "accuracy" in search.objective else f"{value:.4g}"
    return f"{told} \u00b1 {error_told(search, error)}" if np.isfinite(error) else told


def _value_told(value) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
