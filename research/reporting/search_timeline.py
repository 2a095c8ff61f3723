"""Figures of a search as Plotly's JSON: its slots over time, and the fate of its trials."""

import numpy as np

from research.reporting.plots import figure, text
from research.reporting.search_plots import ABOVE, ENDS
from research.reporting.searched import Search
from research.tuning.trials import Trial

_LATER, _WENT_ON = "waited, and went on later", "#d9d9d9"
BARS = 3000  # drawn, at most


def timeline(search: Search) -> dict:
    """Return slots from top to bottom over turns, with a bar for each of the first stays."""
    stays = search.stays[:BARS]
    places = sorted({(stay.program, stay.slot) for stay in stays})
    rows = {place: row for row, place in enumerate(places)}
    height = min(max(22 * len(rows), 120), 640)
    numbered = height / len(rows) >= 14 and len(stays) <= 300
    last = {stay.trial: stay for stay in search.stays}
    groups: dict[str, list] = {}
    for stay in stays:
        final = last[stay.trial] is stay
        groups.setdefault(search.trials[stay.trial].end if final else _LATER, []).append(stay)
    traces = []
    colors = {end: color for end, (color, _) in ENDS.items()} | {_LATER: _WENT_ON}
    for end, color in colors.items():
        group = groups.get(end)
        if not group:
            continue
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": end or "running",
                "y": [rows[stay.program, stay.slot] for stay in group],
                "x": [stay.last - stay.first + 1 for stay in group],
                "base": [stay.first for stay in group],
                "width": 0.9,
                "text": [str(stay.trial) if numbered else "" for stay in group],
                "textposition": "inside",
                "insidetextanchor": "middle",
                "textangle": 0,
                "customdata": [
                    _stay_label(search.trials[stay.trial], stay.segment) for stay in group
                ],
                "marker": {"color": color, "line": {"color": "#fff", "width": 1}},
                "hovertemplate": "%{customdata}<extra></extra>",
            }
        )
    programs = sorted({program for program, _ in places})
    axis: dict = {"title": {"text": "slot"}, "autorange": "reversed", "showgrid": False}
    shapes = []
    if len(programs) > 1:
        groups = [[rows[p] for p in places if p[0] == program] for program in programs]
        axis |= {"title": {"text": "program"}, "tickvals": [sum(g) / len(g) for g in groups]}
        axis["ticktext"] = [_program_label(search, program) for program in programs]
        shapes = [_level(group[0] - 0.5) for group in groups[1:]]
    elif len(rows) <= 16:
        axis["dtick"] = 1
    return figure(
        traces,
        xaxis={"title": {"text": "turn (each trains the slots of a program for one segment)"}},
        yaxis=axis,
        barmode="overlay",
        showlegend=True,
        legend=ABOVE,
        shapes=shapes,
        height=height + 90,
        bargap=0,
        uniformtext={"minsize": 8, "mode": "hide"},
    )


def _stay_label(trial: Trial, segment: int) -> str:
    end = (trial.end or "running") if segment == trial.segment else _LATER
    label = f"trial {trial.number}: {end}, after segment {segment}"
    if trial.proposal.parent is not None:
        label += f", copied from trial {trial.proposal.parent}"
    return f"{label} of {trial.segments}"


def _program_label(search: Search, program: int) -> str:
    number = next(stay.trial for stay in search.stays if stay.program == program)
    static = search.space.static(search.trials[number].values)
    label = ", ".join(map(str, static.values()))
    return text(label if len(label) <= 28 else label[:27] + "\u2026")


def _level(y: float) -> dict:
    line = {"color": "#444", "width": 1}
    return {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": y, "y1": y, "line": line}


def segments(search: Search) -> dict:
    """Return how many trials came to the end of each segment, and what became of them there."""
    count = search.config.search.segments
    traces = []
    went_on = np.zeros(count, int)
    for end, (color, _) in ENDS.items():
        here = np.zeros(count, int)
        for trial in search.trials:
            if trial.end == end and trial.reports:
                here[trial.segment - 1] += 1
                went_on[trial.reports[0]["segment"] - 1 : trial.segment - 1] += 1
        if here.any():
            traces.append(_bars(f"{end or 'running'} there", here, color))
    traces.append(_bars("went on", went_on, _WENT_ON))
    return figure(
        traces,
        xaxis={"title": {"text": "segment of the training"}, "dtick": 1 if count <= 20 else None},
        yaxis={"title": {"text": "trials"}, "rangemode": "tozero"},
        barmode="stack",
        legend=ABOVE,
    )


def _bars(name: str, counts: np.ndarray, color: str) -> dict:
    return {
        "type": "bar",
        "name": name,
        "x": list(range(1, len(counts) + 1)),
        "y": counts.tolist(),
        "marker": {"color": color},
        "hovertemplate": "%{y} trials",
    }
