"""Figures of a search as Plotly's JSON: scores over the axes of its space."""

from collections.abc import Sequence

from research.reporting.plots import COLORS, figure, text
from research.reporting.scales import (
    Scale,
    axis_of,
    dimension,
    even_ticks,
    last_score,
    position,
    short_names,
)
from research.reporting.search_plots import ENDS, VIRIDIS
from research.reporting.search_surface import Surface
from research.reporting.searched import Search
from research.tuning.axes import Axis
from research.tuning.coarse_to_fine import Round
from research.tuning.trials import Trial

_SCALE = [[place / (len(VIRIDIS) - 1), color] for place, color in enumerate(VIRIDIS)]


def parallel_coordinates(search: Search, trials: Sequence[Trial], scale: Scale) -> dict:
    """Return a line for each trial through its values to its score, the best dark and above."""
    trials = sorted(trials, key=last_score, reverse=True)
    names = short_names(search.space)
    dimensions = [dimension(axis, trials, names[axis.key]) for axis in search.space.axes]
    epochs = [round(search.epochs(trial), 4) for trial in trials]
    if len(set(epochs)) > 1:
        ticks = even_ticks(0, max(epochs))
        dimensions.append(
            {
                "label": "epochs",
                "values": epochs,
                "range": [0, max(epochs)],
                "tickvals": list(ticks),
                "ticktext": list(ticks.values()),
            }
        )
    scores = scale.transformed(map(last_score, trials))
    low, high = map(float, scale.transformed([scale.floor, scale.ceiling]))
    high = high if high > low else low + 1
    ticks = [low + share * (high - low) for share in (0, 0.25, 0.5, 0.75, 1)]
    labels = [scale.shown(10**tick if scale.log else tick) for tick in ticks]
    dimensions.append(
        {
            "label": "score",
            "values": scores.round(6).tolist(),
            "range": [low, high],
            "tickvals": ticks,
            "ticktext": labels,
        }
    )
    trace = {
        "type": "parcoords",
        "dimensions": dimensions,
        "line": {
            "color": scores.round(6).tolist(),
            "colorscale": _SCALE,
            "cmin": low,
            "cmax": high,
        },
        "labelfont": {"size": 13},
        "tickfont": {"size": 12},
        "labelangle": 0 if len(dimensions) <= 8 else -20,
        "unselected": {"line": {"opacity": 0.05}},
    }
    return figure([trace], height=420, margin={"l": 96, "r": 80, "t": 72, "b": 24})


def slices(search: Search, trials: Sequence[Trial], best: Trial, scale: Scale) -> list[dict]:
    """Return a figure for each axis: scores over values, coloured by the number of the trial."""
    return [_slice(search, axis, trials, best, scale) for axis in search.space.axes]


def _slice(search: Search, axis: Axis, trials: Sequence[Trial], best: Trial, scale: Scale) -> dict:
    there = [trial for trial in trials if axis.key in trial.values]
    spread = 0.5 if axis.kind == "choice" else 0.0  # or all of a choice would be one column

    def x(trial: Trial) -> float:
        return round(position(axis, trial.values[axis.key]) + spread * _shift(trial), 8)

    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x(trial) for trial in there],
            "y": scale.place(map(last_score, there)),
            "customdata": [
                [
                    trial.number,
                    scale.shown(last_score(trial)),
                    trial.end or "running",
                    text(trial.values[axis.key]),
                ]
                for trial in there
            ],
            "marker": {
                "size": 7,
                "symbol": [ENDS[trial.end][1] for trial in there],
                "color": [trial.number for trial in there],
                "colorscale": [[0, "#9ecae1"], [1, "#1563a8"]],
                "cmin": 0,
                "cmax": max(1, search.trials[-1].number),
                "line": {"width": 1},
                "showscale": True,
                "colorbar": {"title": {"text": "trial"}, "thickness": 10, "tickformat": "d"},
            },
            "showlegend": False,
            "hovertemplate": "trial %{customdata[0]}, %{customdata[2]}: %{customdata[1]} at "
            "%{customdata[3]}<extra></extra>",
        }
    ]
    if best in there:
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": [x(best)],
                "y": scale.place([last_score(best)]),
                "showlegend": False,
                "hoverinfo": "skip",
                "marker": {"size": 15, "symbol": "circle-open", "color": COLORS[1],
                           "line": {"width": 2.5}},
            }
        )  # fmt: skip
    return figure(traces, xaxis=axis_of(axis), yaxis=scale.axis, hovermode="closest", height=340)


def importances(search: Search, shares: dict[str, float]) -> dict:
    """Return a bar for each axis, the longest above."""
    order = sorted(shares, key=shares.get)
    names = short_names(search.space)
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": [round(shares[key], 4) for key in order],
        "y": [text(names[key]) for key in order],
        "text": [f"{shares[key]:.0%}" for key in order],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": COLORS[0]},
        "hovertemplate": "%{y}: %{x:.1%}<extra></extra>",
    }
    return figure(
        [trace],
        xaxis={
            "title": {"text": "share of the importance"},
            "tickformat": ".0%",
            "range": [0, 1.05],
        },
        yaxis={"type": "category"},
        height=110 + 30 * len(order),
    )


def surfaces(fitted: Surface, trials: Sequence[Trial], best: Trial, scale: Scale) -> list[dict]:
    """Return what the surrogate expects over two axes, and its deviation; trials as points."""
    low, high = map(float, scale.transformed([scale.floor, scale.ceiling]))
    ticks = [low + share * (high - low) for share in (0, 0.25, 0.5, 0.75, 1)]
    expected = {
        "z": scale.transformed(fitted.scores.ravel())
        .reshape(fitted.scores.shape)
        .round(5)
        .tolist(),
        "zmin": low,
        "zmax": high,
        "colorscale": _SCALE,
        "customdata": [[scale.shown(score) for score in row] for row in fitted.scores],
        "hovertemplate": "expected %{customdata}<extra></extra>",
        "colorbar": {
            "title": {"text": "expected score", "side": "right"},
            "tickvals": ticks,
            "ticktext": [scale.shown(10**tick if scale.log else tick) for tick in ticks],
            "thickness": 14,
        },
    }
    unsure = {
        "z": fitted.deviations.round(4).tolist(),
        "zmin": 0,
        "colorscale": [[0, "#fff"], [1, "#636363"]],
        "hovertemplate": "%{z:.3f}<extra></extra>",
        "colorbar": {"title": {"text": "standard deviation", "side": "right"}, "thickness": 14},
    }
    places = [
        [position(axis, value) for value in values]
        for axis, values in zip(fitted.axes, fitted.values, strict=True)
    ]
    points = _points_on(fitted.axes, trials, best, scale)
    x, y = map(axis_of, fitted.axes)
    return [
        figure(
            [{"type": _kind(fitted.axes), "x": places[0], "y": places[1], **drawn}, *points],
            xaxis={**x, "showgrid": False},
            yaxis={**y, "showgrid": False},
            hovermode="closest",
            height=420,
        )
        for drawn in (expected, unsure)
    ]


def _kind(axes: Sequence[Axis]) -> str:
    """Return the type of trace: contour lines need values between those of both axes."""
    return "heatmap" if any(axis.count for axis in axes) else "contour"


def _points_on(
    axes: Sequence[Axis], trials: Sequence[Trial], best: Trial, scale: Scale
) -> list[dict]:
    there = [trial for trial in trials if all(axis.key in trial.values for axis in axes)]
    x, y = ([position(axis, trial.values[axis.key]) for trial in there] for axis in axes)
    marks = {
        "size": [12 if trial is best else 6 for trial in there],
        "color": [COLORS[1] if trial is best else "#fff" for trial in there],
        "line": {"color": "#222", "width": 1},
    }
    labels = [f"trial {trial.number}: {scale.shown(last_score(trial))}" for trial in there]
    return [
        {
            "type": "scatter",
            "mode": "markers",
            "x": x,
            "y": y,
            "marker": marks,
            "showlegend": False,
            "customdata": labels,
            "hovertemplate": "%{customdata}<extra></extra>",
        }
    ]


def boxes(search: Search, rounds: Sequence[Round]) -> list[dict]:
    """Return for each axis of numbers the range of each round, its trials and its best value."""
    return [_boxes(axis, rounds) for axis in search.space.axes if axis.kind != "choice"]


def _boxes(axis: Axis, rounds: Sequence[Round]) -> dict:
    shapes = []
    trials = [(r.number + 1, t) for r in rounds for t in r.trials if axis.key in t.values]
    best = [(r.number + 1, r.best) for r in rounds if r.best and axis.key in r.best.values]
    for number, (low, high) in ((r.number + 1, r.box[axis.key]) for r in rounds):
        shapes.append(
            {
                "type": "rect",
                "x0": number - 0.35,
                "x1": number + 0.35,
                "y0": low,
                "y1": high,
                "line": {"color": COLORS[0], "width": 2},
                "fillcolor": f"{COLORS[0]}22",
                "layer": "below",
            }
        )

    def drawn(points, name: str, marker: dict, spread: float) -> dict:
        return {
            "type": "scatter",
            "mode": "markers",
            "name": name,
            "x": [number + spread * _shift(trial) for number, trial in points],
            "y": [trial.values[axis.key] for _, trial in points],
            "marker": marker,
            "customdata": [trial.number for _, trial in points],
            "hovertemplate": "trial %{customdata}: %{y:.4g}<extra></extra>",
        }

    return figure(
        [
            drawn(trials, "trials", {"color": COLORS[7], "size": 5}, 0.6),
            drawn(best, "best of the round", {"color": COLORS[1], "size": 12, "symbol": "star"}, 0),
        ],
        xaxis={
            "title": {"text": "round, and its share of the duration"},
            "tickvals": [r.number + 1 for r in rounds],
            "ticktext": [f"{r.number + 1} ({r.share:.0%})" for r in rounds],
            "range": [0.4, len(rounds) + 0.6],
        },
        yaxis=axis_of(axis),
        shapes=shapes,
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )


def _shift(trial: Trial) -> float:
    """Return a shift from -0.5 to 0.5: evenly spread over trials, and the same each time."""
    return (trial.number * 0.6180339887) % 1 - 0.5
