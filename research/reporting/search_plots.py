"""Figures of a search as Plotly's JSON: its scores."""

import math
from collections.abc import Sequence

import numpy as np

from research.reporting import search_statistics as statistics
from research.reporting.plots import COLORS, INK, LEGEND_ABOVE, figure, text
from research.reporting.scales import Scale, last_score
from research.reporting.searched import Search
from research.tuning.trials import (
    DIVERGED,
    FINISHED,
    REPLACED,
    RUNNING,
    STOPPED,
    Trial,
)

ENDS = {  # colour and symbol of a trial, by how it ended
    FINISHED: (COLORS[0], "circle"),
    STOPPED: (COLORS[5], "circle-open"),
    REPLACED: (COLORS[3], "diamond-open"),
    DIVERGED: (COLORS[1], "x"),
    RUNNING: (COLORS[7], "triangle-right"),
}
VIRIDIS = ("#440154", "#482878", "#3e4989", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58",
           "#b5de2b", "#fde725")  # fmt: skip
ABOVE = {**LEGEND_ABOVE, "traceorder": "normal"}
_POINTS = 200  # of a band
_POINTS_OF_TRIALS = 2000


def best_so_far(searches: Sequence[Search], scale: Scale, over: str) -> dict:
    """Return the lowest score of the trials up to each, with a bootstrap band from 5 to 95 %.

    Args:
      searches: one, whose trials are shown as points too, or several.
      scale: of the scores.
      over: 'trials', or the 'epochs' that these trials have trained, added up.
    """
    traces, totals, several = [], [], len(searches) > 1
    for number, search in enumerate(searches):
        color = COLORS[number % len(COLORS)]
        scores = np.array([last_score(trial) for trial in search.trials])
        costs = np.array([search.epochs(trial) for trial in search.trials])
        x = np.cumsum(costs) if over == "epochs" else np.arange(1.0, len(scores) + 1)
        totals.append(x[-1])
        if not np.isfinite(scores).any():
            continue
        at = np.unique(np.ceil(np.geomspace(1, len(scores), _POINTS)))
        if over == "epochs":
            at = np.geomspace(costs[costs > 0].min(), x[-1], _POINTS)
            low, middle, high = statistics.band_over_cost(scores, costs, at, (0.05, 0.5, 0.95))
        else:
            low, middle, high = (
                statistics.band(scores, quantile)[at.astype(int) - 1]
                for quantile in (0.05, 0.5, 0.95)
            )
        there = np.isfinite(low)
        traces += [
            _line(at[there], scale.place(edge[there]), color, 0, **fill)
            for edge, fill in (
                (high, {}),
                (low, {"fill": "tonexty", "fillcolor": f"{color}22"}),
            )
        ]
        there = np.isfinite(middle)
        traces.append(_line(at[there], scale.place(middle[there]), color, 1, dash="dot"))
        best = np.minimum.accumulate(scores)
        if not several:
            traces.append(_trials_as_points(search.trials, x, scale))
        steps = np.flatnonzero(np.isfinite(best) & np.append(True, best[1:] < best[:-1]))
        steps = np.append(steps, len(best) - 1)
        name = text(search.name) if several else "best so far"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": x[steps].tolist(),
                "y": scale.place(best[steps]),
                "customdata": [int(np.argmin(scores[: step + 1])) for step in steps],
                "line": {"color": color, "width": 3, "shape": "hv"},
                "hovertemplate": f"%{{y:{_hover(scale)}}} (trial %{{customdata}})",
            }
        )
    first = min(trace["x"][0] for trace in traces if trace["x"])
    reach = {"type": "log", "range": [math.log10(first), math.log10(1.02 * max(totals))]}
    title = "trials" if over == "trials" else "epochs, of all trials together"
    return figure(
        traces,
        xaxis={
            "title": {"text": title},
            **({**reach, "dtick": "D2"} if several else {"range": [0, 1.02 * max(totals)]}),
        },
        yaxis=scale.axis,
        legend=ABOVE,
        shapes=[_upright(min(totals))] if several else [],
        height=380,
        margin={"l": 64, "r": 16, "t": 32 + 22 * (len(searches) > 3), "b": 48},
    )


def _line(x, y, color: str, width: int, dash: str = "solid", **more) -> dict:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": np.round(x, 4).tolist(),
        "y": y,
        "line": {"color": color, "width": width, "dash": dash},
        "showlegend": False,
        "hoverinfo": "skip",
        **more,
    }


def _trials_as_points(trials: Sequence[Trial], x: np.ndarray, scale: Scale) -> dict:
    kept = list(zip(x, trials, strict=True))[:: -(-len(trials) // _POINTS_OF_TRIALS)]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "trials",
        "x": [float(place) for place, _ in kept],
        "y": scale.place(last_score(trial) for _, trial in kept),
        "customdata": [[trial.number, scale.shown(last_score(trial))] for _, trial in kept],
        "marker": {
            "color": COLORS[7],
            "size": 5,
            "symbol": [ENDS[trial.end][1] for _, trial in kept],
        },
        "hovertemplate": "trial %{customdata[0]}: %{customdata[1]}<extra></extra>",
    }


def _upright(x: float) -> dict:
    line = {"color": "#888", "width": 1.5, "dash": "dash"}
    return {"type": "line", "x0": x, "x1": x, "yref": "paper", "y0": 0, "y1": 1, "line": line}


def learning_curves(trials: Sequence[Trial], best: Trial, scale: Scale, score_scale: Scale) -> dict:
    """Return scores over epochs; each tenth of the trials, by final score, has a colour.

    Args:
      trials: those drawn.
      best: drawn above them.
      scale: of all scores that were reported.
      score_scale: of those at the end, which gives the colours their names.
    """
    order = sorted((trial for trial in trials if trial.reports), key=last_score)
    traces = []
    groups: dict[tuple[bool, int], list[Trial]] = {}
    for rank, trial in enumerate(order):
        whole = trial.end == FINISHED
        groups.setdefault((whole, rank * len(VIRIDIS) // len(order)), []).append(trial)
    for (whole, tenth), members in sorted(groups.items(), reverse=True):
        traces.append(_curves(members, VIRIDIS[tenth], scale, width=1.6 if whole else 0.8))
    traces.sort(key=lambda trace: trace["line"]["width"])
    traces.append({**_curves([best], INK, scale, width=3), "name": f"best: trial {best.number}"})
    traces[-1] |= {"showlegend": True, "mode": "lines+markers"}
    finals = score_scale.place(last_score(trial) for trial in order)
    ticks = [0, 0.25, 0.5, 0.75, 1]
    labels = [score_scale.shown(float(q)) for q in np.quantile(finals, ticks)]
    bar = {"title": {"text": "final score", "side": "right"}, "tickvals": ticks, "ticktext": labels}
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [None],
            "y": [None],
            "showlegend": False,
            "marker": {
                "color": [0],
                "cmin": 0,
                "cmax": 1,
                "colorscale": _flat_colors(),
                "showscale": True,
                "colorbar": {**bar, "thickness": 14},
            },
        }
    )
    return figure(
        traces,
        xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
        yaxis=scale.axis,
        legend=ABOVE,
        height=420,
        hovermode="closest",
    )


def _curves(trials: Sequence[Trial], color: str, scale: Scale, width: float) -> dict:
    """Return many curves as one trace, with gaps between them."""
    x, y, labels = [], [], []
    for trial in trials:
        x += [round(report["epoch"], 4) for report in trial.reports] + [None]
        y += [*scale.place(report["score"] for report in trial.reports), None]
        labels += [f"trial {trial.number} ({trial.end or 'running'})"] * (len(trial.reports) + 1)
    single = any(len(trial.reports) == 1 for trial in trials)
    return {
        "type": "scatter",
        "mode": "lines+markers" if single else "lines",
        "x": x,
        "y": y,
        "customdata": labels,
        "showlegend": False,
        "line": {"color": color, "width": width},
        "marker": {"size": 4},
        "hovertemplate": f"%{{customdata}}: %{{y:{_hover(scale)}}} at epoch %{{x:~g}}"
        "<extra></extra>",
    }


def _flat_colors() -> list:
    count = len(VIRIDIS)
    steps = []
    for place, color in enumerate(VIRIDIS):
        steps += [[place / count, color], [(place + 1) / count, color]]
    return steps


def _hover(scale: Scale) -> str:
    return ".2%" if "%" in scale.tickformat else ".4g"
