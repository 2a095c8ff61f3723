"""Figures as plain dicts of Plotly's JSON: built without importing Plotly, drawn by its script."""

import html
from collections.abc import Sequence

import numpy as np

# Okabe and Ito's colours, which the colour-blind can tell apart; the first two are train and
# validation where there is one run.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F7F7F")
_SQUARE = {"height": 560, "width": 720}
_NUMBERED_CLASSES = 20  # confusion matrices of more classes show no numbers in their cells


def curves(runs: Sequence, key: str, title: str, *, tickformat="~g", log=False) -> dict | None:
    """A metric over epochs, for each run and split; of ensembles with a band over the members.

    Args:
      runs: have `name` and `metrics`, the records of `metrics.jsonl`.
      key: what to draw, as in the records.
      title: of the vertical axis, with its unit.
      tickformat: of the numbers at the axis, in d3's notation; '.0%' for shares.
      log: logarithmic vertical axis.

    Returns:
      The figure, or None where no record has the key.
    """
    traces = []
    for number, run in enumerate(runs):
        for dash, split in enumerate(("train", "validation", "validation_averaged")):
            points = [
                (record["epoch"], record[key])
                for record in run.metrics
                if record.get("split") == split and record.get(key) is not None
            ]
            if not points:
                continue
            color = COLORS[(number if len(runs) > 1 else dash) % len(COLORS)]
            name = split.replace("_", ", ")
            name = name if len(runs) == 1 else f"{run.name} {name}"
            style = "solid" if len(runs) == 1 else ("dot", "solid", "dash")[dash]
            band = _band(run.metrics, split, key, color)
            if band:
                name += " (mean)" if split == "train" else " (ensemble)"
            traces += band
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines+markers" if len(points) < 40 else "lines",
                    "name": text(name),
                    "x": [x for x, _ in points],
                    "y": [y for _, y in points],
                    "line": {"color": color, "width": 2, "dash": style},
                    "marker": {"size": 5},
                    "hovertemplate": f"%{{y:{'.2%' if tickformat == '.0%' else '.5g'}}}",
                }
            )
    if not traces:
        return None
    axis = {"title": {"text": title}, "tickformat": tickformat}
    if log:
        drawn = [y for trace in traces for y in trace["y"] if y > 0]
        axis |= {"type": "log"}
        if drawn and max(drawn) >= 10 * min(drawn):
            axis["dtick"] = "D2"  # labels at 1, 2 and 5 of each decade
    elif tickformat != ".0%":
        axis["rangemode"] = "tozero"
    return figure(
        traces,
        xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
        yaxis=axis,
        hovermode="x unified",
        legend={
            "orientation": "h",
            "y": 1.02,
            "yanchor": "bottom",
            "x": 0,
            "traceorder": "normal",  # which fills would reverse
        },
        margin={"l": 64, "r": 16, "t": 32 + 20 * (len(runs) - 1), "b": 48},
    )


def _band(metrics: Sequence[dict], split: str, key: str, color: str) -> list[dict]:
    """From the least to the greatest of the members; [] where there are none."""
    points = [
        (record["epoch"], [value for value in record["members"][key] if value is not None])
        for record in metrics
        if record.get("split") == split and key in record.get("members", {})
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


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> dict:
    """Counts (C, C) of true (rows) against predicted classes, coloured by the share of the row."""
    totals = counts.sum(1, keepdims=True)
    shares = counts / np.maximum(totals, 1)
    names = [text(name) for name in class_names]
    trace = {
        "type": "heatmap",
        "z": np.round(shares, 4).tolist(),
        "x": names,
        "y": names,
        "customdata": counts.tolist(),
        "colorscale": [[0, "#ffffff"], [0.02, "#deebf7"], [0.2, "#6baed6"], [1, "#08306b"]],
        "zmin": 0,
        "zmax": 1,
        "colorbar": {"title": {"text": "share of<br>true class"}, "tickformat": ".0%"},
        "hovertemplate": "true %{y}, predicted %{x}: %{customdata} (%{z:.1%})<extra></extra>",
    }
    if len(names) <= _NUMBERED_CLASSES:
        trace |= {
            "text": np.where(counts > 0, counts.astype(str), "").tolist(),
            "texttemplate": "%{text}",
        }
    category = {"type": "category", "constrain": "domain", "showgrid": False}
    return figure(
        [trace],
        xaxis={"title": {"text": "predicted class"}, **category},
        yaxis={
            "title": {"text": "true class"},
            "autorange": "reversed",
            "scaleanchor": "x",
            **category,
        },
        **_SQUARE,
    )


def reliability_diagram(counts: np.ndarray, confidences: np.ndarray, accuracies: np.ndarray):
    """Accuracy over confidence, in bins of equal width (Guo et al., 2017, figure 1).

    On the diagonal the probabilities can be trusted; below it the network is too sure.
    """
    filled = counts > 0
    place = {
        "x": ((np.arange(len(counts)) + 0.5) / len(counts))[filled].tolist(),
        "width": 1 / len(counts),
    }
    told = np.stack([confidences, accuracies, counts], axis=1)[filled].tolist()
    bars = {
        "type": "bar",
        "name": "accuracy",
        **place,
        "y": np.round(accuracies[filled], 4).tolist(),
        "customdata": told,
        "marker": {"color": COLORS[0], "line": {"color": "#fff", "width": 1}},
        "hovertemplate": "confidence %{customdata[0]:.1%}, accuracy %{customdata[1]:.1%}, "
        "%{customdata[2]:,} examples<extra></extra>",
    }
    shares = {
        "type": "bar",
        "name": "share of the examples",
        **place,
        "y": np.round(counts[filled] / max(counts.sum(), 1), 4).tolist(),
        "marker": {"color": "rgba(0, 0, 0, 0)", "line": {"color": COLORS[6], "width": 1.5}},
        "hoverinfo": "skip",
    }
    diagonal = {
        "type": "scatter",
        "mode": "lines",
        "name": "accuracy = confidence",
        "x": [0, 1],
        "y": [0, 1],
        "line": {"color": COLORS[1], "width": 2, "dash": "dash"},
        "hoverinfo": "skip",
    }
    share = {"tickformat": ".0%", "range": [0, 1.02], "constrain": "domain"}
    return figure(
        [bars, shares, diagonal],
        xaxis={"title": {"text": "confidence"}, **share},
        yaxis={"title": {"text": "accuracy"}, "scaleanchor": "x", **share},
        barmode="overlay",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        **_SQUARE,
    )


def decision_regions(found: dict, class_names: Sequence[str]) -> dict:
    """Where in the plane each class is predicted, and the test points."""
    x, y, winner = found["plane_x"], found["plane_y"], found["plane_classes"]
    classes = len(class_names)
    colors = [COLORS[label % len(COLORS)] for label in range(classes)]
    steps = []  # a colour scale of flat bands
    for label, color in enumerate(colors):
        steps += [[label / classes, color], [(label + 1) / classes, color]]
    region = {
        "type": "heatmap",
        "x": np.round(x, 4).tolist(),
        "y": np.round(y, 4).tolist(),
        "z": winner.tolist(),
        "zmin": -0.5,
        "zmax": classes - 0.5,
        "colorscale": steps,
        "opacity": 0.3,
        "showscale": False,
        "hoverinfo": "skip",
    }
    points, labels = found["plane_points"], found["plane_labels"]
    clouds = [
        {
            "type": "scatter",
            "mode": "markers",
            "name": text(f"class {class_names[label]}"),
            "x": np.round(points[labels == label, 0], 4).tolist(),
            "y": np.round(points[labels == label, 1], 4).tolist(),
            "marker": {"color": colors[label], "size": 5, "line": {"color": "#fff", "width": 0.5}},
            "hovertemplate": "(%{x:.2f}, %{y:.2f})",
        }
        for label in range(classes)
    ]
    return figure(
        [region, *clouds],
        xaxis={"title": {"text": "x"}, "constrain": "domain", "zeroline": False},
        yaxis={"title": {"text": "y"}, "scaleanchor": "x", "zeroline": False},
        **_SQUARE,
    )


def text(value: object) -> str:
    """A name as Plotly shall show it: it takes some of HTML's tags for markup."""
    return html.escape(str(value), quote=False)


def figure(traces: list[dict], **layout) -> dict:
    """Traces under the layout that all figures share, with what is given over it."""
    for axis in [name for name in layout if name.startswith(("xaxis", "yaxis"))]:
        style = {"gridcolor": "#e8e8e8", "linecolor": "#888", "ticks": "outside"}
        layout[axis] = {**style, "automargin": True, **layout[axis]}
        if axis.startswith("y") and "title" in layout[axis]:  # wide labels would run into it
            layout[axis]["title"] = {"standoff": 10, **layout[axis]["title"]}
    return {
        "data": traces,
        "layout": {
            "height": 320,
            "margin": {"l": 64, "r": 16, "t": 32, "b": 48},
            "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#222"},
            "plot_bgcolor": "#fff",
            "paper_bgcolor": "#fff",
            **layout,
        },
    }
