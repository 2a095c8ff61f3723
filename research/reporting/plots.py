"""Figures as plain dicts of Plotly's JSON: built without importing Plotly, drawn by its script.

Colours of the page (background, text, grid) come from `templates/draw.js`, light or dark.
"""

import html
from collections.abc import Sequence
from typing import Any

from research import formats

# Okabe and Ito's colours, which the colour-blind can tell apart. With one run the first two are
# train and validation. Black is drawn in the colour of text.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
INK = COLORS[6]
SPLITS = ("train", "validation", "validation_averaged")
LEGEND_ABOVE = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
SQUARE = {"height": 560, "meta": "square"}  # as wide as high, at most as wide as the page
MOST_LINES = 12  # entries of an array metric that are drawn as lines

_DASHES = ("dot", "solid", "dash")


def curves(runs: Sequence, metric: str, *, from_zero: bool = False) -> dict | None:
    """Return a metric over epochs, for each run and split; of ensembles with a band over members.

    Args:
      runs: have `name` and `metrics`, the records of `metrics.jsonl`.
      metric: its key in the records.
      from_zero: let the vertical axis begin at 0.

    Returns:
      The figure, or None if no record has a number for the metric.
    """
    traces, drawn = [], set()
    for number, run in enumerate(runs):
        for place, split in enumerate(SPLITS):
            points = _points(run, split, metric)
            if not points:
                continue
            color = COLORS[(number if len(runs) > 1 else place) % len(COLORS)]
            name = split.replace("_", ", ")
            name = name if len(runs) == 1 else f"{run.name} {name}"
            band = _band(run.metrics, split, metric, color)
            if band:
                name += " (mean)" if split == "train" else " (ensemble)"
            dash = "solid" if len(runs) == 1 else _DASHES[place]
            traces += [*band, _line(points, name, color, dash)]
            drawn.add(number)
    return _over_epochs(traces, metric, len(drawn), from_zero)


def entries(run: Any, metric: str, names: Sequence[str] = ()) -> list[dict]:
    """Return figures of an array metric: a line for each of a few entries, else a heat map.

    Args:
      run: has `metrics`, the records of `metrics.jsonl`.
      metric: its key in the records.
      names: of the entries, if they are as many as the entries.
    """
    figures, lines, drawn = [], [], set()
    for place, split in enumerate(SPLITS):
        points = [(x, y) for x, y in _points(run, split, metric, list) if y]
        if not points:
            continue
        rows = points[-1][1]
        if isinstance(rows[0], list):  # a matrix: as it was last
            if not isinstance(rows[0][0], list):
                figures.append(_matrix(f"{metric}, {split}, at the end", rows, names))
            continue
        points = [(x, row) for x, row in points if len(row) == len(rows)]
        if len(rows) > MOST_LINES:
            figures.append(_heat_map(f"{metric}, {split}", points, names))
            continue
        for entry, name in enumerate(_named(names, len(rows))):
            line = [(x, row[entry]) for x, row in points if row[entry] is not None]
            if line:
                trace = _line(line, name, COLORS[entry % len(COLORS)], _DASHES[place])
                trace["hovertemplate"] = f"%{{y:.5g}}<extra>{split} {name}</extra>"
                trace |= {"legendgroup": name, "showlegend": name not in drawn}
                drawn.add(name)
                lines.append(trace)
    plot = _over_epochs(lines, metric, 1 + len(drawn) // 4, False)
    if plot:
        plot["layout"]["yaxis"]["title"]["text"] += "<br>(train: dotted)"
        figures.insert(0, plot)
    return figures


def _points(run: Any, split: str, metric: str, kind: type | tuple = (int, float)) -> list[tuple]:
    """Return (epoch, value) for the records of a split that have a value of this kind."""
    return [
        (record["epoch"], record[metric])
        for record in run.metrics
        if record.get("split") == split and isinstance(record.get(metric), kind)
    ]


def _line(points: Sequence[tuple[float, float]], name: str, color: str, dash: str) -> dict:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(points) < 40 else "lines",
        "name": text(name),
        "x": [x for x, _ in points],
        "y": [y for _, y in points],
        "line": {"color": color, "width": 2, "dash": dash},
        "marker": {"size": 5},
    }


def _over_epochs(traces: list[dict], metric: str, legend_rows: int, from_zero: bool):
    if not traces:
        return None
    numbers = [y for trace in traces for y in trace["y"]]
    share = formats.is_share(metric, numbers)
    axis: dict[str, Any] = {"title": {"text": text(formats.words(metric))}}
    axis["tickformat"] = ".0%" if share else "~s" if max(numbers) >= 10_000 else "~g"
    if share and max(numbers) - min(numbers) < 0.05:
        axis["tickformat"] = ".1%"
    if formats.is_logarithmic(metric, numbers):
        axis["type"] = "log"
        if max(numbers) >= 10 * min(numbers):
            axis["dtick"] = "D2"  # labels at 1, 2 and 5 of each decade
    elif from_zero:
        axis["rangemode"] = "tozero"
    for trace in traces:
        trace.setdefault("hovertemplate", f"%{{y:{'.2%' if share else '.5g'}}}")
    return figure(
        traces,
        xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
        yaxis=axis,
        hovermode="x unified",
        showlegend=True,
        legend={**LEGEND_ABOVE, "traceorder": "normal"},  # which fills would reverse
        margin={"l": 64, "r": 16, "t": 32 + 20 * (legend_rows - 1), "b": 48},
    )


def _band(metrics: Sequence[dict], split: str, metric: str, color: str) -> list[dict]:
    """Return a band from the least to the greatest of the members; [] without members."""
    points = [
        (record["epoch"], [value for value in record["members"][metric] if value is not None])
        for record in metrics
        if record.get("split") == split and metric in record.get("members", {})
    ]
    edges = [(epoch, min(values), max(values)) for epoch, values in points if values]
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [edge[0] for edge in edges],
            "y": [edge[side] for edge in edges],
            "line": {"color": color, "width": 0},
            "fill": "none" if side == 1 else "tonexty",
            "fillcolor": f"{color}33",  # a fifth of it
            "showlegend": False,
            "hoverinfo": "skip",
        }
        for side in (1, 2)
        if edges
    ]


def _heat_map(title: str, points: Sequence[tuple[float, list]], names: Sequence[str]) -> dict:
    rows = list(zip(*(row for _, row in points), strict=True))  # one for each entry
    return _heat(title, rows, x=[x for x, _ in points], y=_named(names, len(rows)), across="epoch")


def _matrix(title: str, rows: list[list], names: Sequence[str]) -> dict:
    return _heat(title, rows, x=_named(names, len(rows[0])), y=_named(names, len(rows)), across="")


def _heat(title: str, rows: Sequence[Sequence], *, x: list, y: list[str], across: str) -> dict:
    trace = {
        "type": "heatmap",
        "z": [list(row) for row in rows],
        "x": x,
        "y": y,
        "colorscale": "Viridis",
        "colorbar": {"thickness": 14},
        "hovertemplate": f"{across or 'column'} %{{x}}, %{{y}}: %{{z:.5g}}<extra></extra>",
    }
    return figure(
        [trace],
        title={"text": text(formats.words(title)), "font": {"size": 13}, "x": 0.02},
        xaxis={"title": {"text": across}, "showgrid": False},
        yaxis={"type": "category", "autorange": "reversed", "showgrid": False},
        height=min(max(320, 14 * len(y)), 900),
    )


def _named(names: Sequence[str], count: int) -> list[str]:
    return [text(name) for name in names] if len(names) == count else list(map(str, range(count)))


def text(value: object) -> str:
    """Return a name that Plotly shows as it is: Plotly takes some of HTML's tags for markup."""
    return html.escape(str(value), quote=False)


def figure(traces: list[dict], **layout) -> dict:
    """Return traces with the layout that all figures share, under the given one."""
    margin = {"l": 64, "r": 16, "t": 32, "b": 48}
    return {"data": traces, "layout": {"height": 320, "margin": margin, **layout}}
