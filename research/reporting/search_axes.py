"""Figures of a search as Plotly's JSON: what it found out about its axes."""

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
from research.reporting.searched import Search
from research.tuning.axes import Axis
from research.tuning.trials import Trial

_SCALE = [[place / (len(VIRIDIS) - 1), color] for place, color in enumerate(VIRIDIS)]


def parallel_coordinates(search: Search, trials: Sequence[Trial], scale: Scale) -> dict:
    """A line for each trial through its values to its score, the best ones dark and above."""
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
    told = [scale.told(10**tick if scale.log else tick) for tick in ticks]
    dimensions.append(
        {
            "label": "score",
            "values": scores.round(6).tolist(),
            "range": [low, high],
            "tickvals": ticks,
            "ticktext": told,
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
        "labelangle": 0 if len(dimensions) <= 8 else -20,
        "unselected": {"line": {"opacity": 0.05}},
    }
    return figure([trace], height=420, margin={"l": 96, "r": 80, "t": 72, "b": 24})


def slices(search: Search, trials: Sequence[Trial], best: Trial, scale: Scale) -> list[dict]:
    """For each axis, scores over values, coloured by the number of the trial."""
    return [_slice(search, axis, trials, best, scale) for axis in search.space.axes]


def _slice(search: Search, axis: Axis, trials: Sequence[Trial], best: Trial, scale: Scale) -> dict:
    there = [trial for trial in trials if axis.key in trial.values]
    spread = 0.5 if axis.kind == "choice" else 0.0  # or all of a choice would be one column

    def x(trial: Trial) -> float:
        shift = (trial.number * 0.6180339887) % 1 - 0.5  # evenly, and the same each time
        return round(position(axis, trial.values[axis.key]) + spread * shift, 8)

    traces = [
        {
            "type": "scatter",
            "mode": "markers",
            "x": [x(trial) for trial in there],
            "y": scale.place(map(last_score, there)),
            "customdata": [
                [
                    trial.number,
                    scale.told(last_score(trial)),
                    trial.end or "running",
                    text(trial.values[axis.key]),
                ]
                for trial in there
            ],
            "marker": {
                "size": 7,
                "symbol": [ENDS[trial.end][1] for trial in there],
                "color": [trial.number for trial in there],
                "colorscale": [[0, "#9ecae1"], [0.5, "#3182bd"], [1, "#08306b"]],
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
    """A bar for each axis, the longest above."""
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
