"""Figures of the test split as Plotly's JSON, from the arrays of `evaluation.npz`."""

from collections.abc import Sequence

import numpy as np

from research.reporting.plots import COLORS, INK, LEGEND_ABOVE, SQUARE, figure, text

MOST_CURVES = 12  # labels whose precision-recall curves are drawn
_NUMBERED_CLASSES = 20  # confusion matrices of more classes show no numbers in their cells
_BINS = 40  # of a histogram


def confusion_matrix(counts: np.ndarray, class_names: Sequence[str]) -> dict:
    """Return counts (C, C) of true (rows) against predicted classes, coloured by row shares."""
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
        **SQUARE,
    )


def reliability_diagram(counts: np.ndarray, confidences: np.ndarray, accuracies: np.ndarray):
    """Return accuracy over confidence, in bins of equal width (Guo et al., 2017, figure 1).

    On the diagonal the probabilities can be trusted; below it the network is too sure.
    """
    filled = counts > 0
    place = {
        "x": ((np.arange(len(counts)) + 0.5) / len(counts))[filled].tolist(),
        "width": 1 / len(counts),
    }
    details = np.stack([confidences, accuracies, counts], axis=1)[filled].tolist()
    bars = {
        "type": "bar",
        "name": "accuracy",
        **place,
        "y": np.round(accuracies[filled], 4).tolist(),
        "customdata": details,
        "marker": {"color": COLORS[0], "line": {"color": "#fff", "width": 1}},
        "hovertemplate": "confidence %{customdata[0]:.1%}, accuracy %{customdata[1]:.1%}, "
        "%{customdata[2]:,} examples<extra></extra>",
    }
    shares = {
        "type": "bar",
        "name": "share of the examples",
        **place,
        "y": np.round(counts[filled] / max(counts.sum(), 1), 4).tolist(),
        "marker": {"color": "rgba(0, 0, 0, 0)", "line": {"color": INK, "width": 1.5}},
        "hoverinfo": "skip",
    }
    diagonal = _diagonal(0, 1, "accuracy = confidence")
    share = {"tickformat": ".0%", "range": [0, 1.02], "constrain": "domain"}
    return figure(
        [bars, shares, diagonal],
        xaxis={"title": {"text": "confidence"}, **share},
        yaxis={"title": {"text": "accuracy"}, "scaleanchor": "x", **share},
        barmode="overlay",
        legend=LEGEND_ABOVE,
        **SQUARE,
    )


def decision_regions(arrays: dict, class_names: Sequence[str]) -> dict:
    """Return where in the plane each class is predicted, with the test points."""
    x, y, winner = arrays["plane_x"], arrays["plane_y"], arrays["plane_classes"]
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
    points, labels = arrays["plane_points"], arrays["plane_labels"]
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
        **SQUARE,
    )


def predictions(name: str, targets: np.ndarray, predicted: np.ndarray) -> dict:
    """Return the predictions (n,) of a target column over its targets (n,), with the diagonal."""
    low, high = (float(f([targets, predicted])) for f in (np.min, np.max))
    points = {
        "type": "scattergl" if len(targets) > 1000 else "scatter",
        "mode": "markers",
        "name": "test examples",
        "x": _rounded(targets),
        "y": _rounded(predicted),
        "marker": {"color": COLORS[0], "size": 5, "opacity": 0.5},
        "hovertemplate": "target %{x:.4g}, prediction %{y:.4g}<extra></extra>",
    }
    return figure(
        [points, _diagonal(low, high, "prediction = target")],
        xaxis={"title": {"text": text(f"{name}: target")}, "zeroline": False},
        yaxis={"title": {"text": "prediction"}, "zeroline": False},
        legend=LEGEND_ABOVE,
        hovermode="closest",
        height=380,
    )


def residuals(name: str, targets: np.ndarray, predicted: np.ndarray) -> dict:
    """Return a histogram of the errors, prediction - target, of a target column."""
    counts, edges = np.histogram(predicted - targets, bins=_BINS)
    bars = {
        "type": "bar",
        "x": _rounded((edges[:-1] + edges[1:]) / 2),
        "width": float(edges[1] - edges[0]),
        "y": counts.tolist(),
        "marker": {"color": COLORS[0]},
        "hovertemplate": "error %{x:.4g}: %{y:,} examples<extra></extra>",
    }
    zero = {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1}
    return figure(
        [bars],
        xaxis={"title": {"text": text(f"{name}: prediction - target")}, "zeroline": False},
        yaxis={"title": {"text": "test examples"}},
        shapes=[{**zero, "line": {"color": COLORS[1], "width": 2, "dash": "dash"}}],
        bargap=0.02,
        height=380,
    )


def average_precisions(
    names: Sequence[str], average_precision: np.ndarray, counts: np.ndarray
) -> dict:
    """Return a bar for each label, the highest average precision above.

    Args:
      names: of the L labels.
      average_precision: (L,), NaN for a label without an example.
      counts: (L,), the examples that have the label.
    """
    order = np.argsort(np.nan_to_num(average_precision, nan=-1.0), kind="stable")
    values = np.nan_to_num(average_precision[order])
    bars = {
        "type": "bar",
        "orientation": "h",
        "x": _rounded(values),
        "y": [text(names[place]) for place in order],
        "text": [
            f"{value:.1%} of {count:,}" if count else "no examples"
            for value, count in zip(values, counts[order].tolist(), strict=True)
        ],
        "textposition": "auto",
        "marker": {"color": COLORS[0]},
        "hovertemplate": "%{y}: %{x:.2%}<extra></extra>",
    }
    share = {"tickformat": ".0%", "range": [0, 1]}
    return figure(
        [bars],
        xaxis={"title": {"text": "average precision"}, **share},
        yaxis={"type": "category", "showgrid": False},
        height=110 + 24 * len(names),
    )


def precision_recall(
    names: Sequence[str], precision: np.ndarray, recall: np.ndarray, labels: Sequence[int]
) -> dict:
    """Return precision over recall for some labels.

    Args:
      names: of the L labels.
      precision: (L, P).
      recall: (L, P), or (P,) of all labels.
      labels: the labels to draw, by number.
    """
    recall = np.broadcast_to(recall, precision.shape)
    curves = [
        {
            "type": "scatter",
            "mode": "lines",
            "name": text(names[label]),
            "x": _rounded(recall[label]),
            "y": _rounded(precision[label]),
            "line": {
                "color": COLORS[place % len(COLORS)],
                "dash": "solid" if place < len(COLORS) else "dash",
                "shape": "hv",
            },
            "hovertemplate": "recall %{x:.1%}, precision %{y:.1%}",
        }
        for place, label in enumerate(labels)
    ]
    share = {"tickformat": ".0%", "range": [0, 1.02], "constrain": "domain"}
    return figure(
        curves,
        xaxis={"title": {"text": "recall"}, **share},
        yaxis={"title": {"text": "precision"}, **share},
        showlegend=True,
        legend=LEGEND_ABOVE,
        hovermode="closest",
        **SQUARE,
    )


def loss_by_position(bits: np.ndarray) -> dict:
    """Return the loss (T,), in bits, of the token at each position of a sequence."""
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": list(range(1, len(bits) + 1)),
        "y": _rounded(bits),
        "line": {"color": COLORS[0], "width": 2},
        "hovertemplate": "position %{x}: %{y:.4g} bits<extra></extra>",
    }
    return figure(
        [line],
        xaxis={"title": {"text": "position in the sequence"}},
        yaxis={"title": {"text": "loss (bits)"}, "rangemode": "tozero"},
    )


def _diagonal(low: float, high: float, name: str) -> dict:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": [low, high],
        "y": [low, high],
        "line": {"color": COLORS[1], "width": 2, "dash": "dash"},
        "hoverinfo": "skip",
    }


def _rounded(values: np.ndarray) -> list[float]:
    """Return numbers to five digits: more only make the file larger."""
    return [float(f"{value:.5g}") for value in np.asarray(values, float)]
