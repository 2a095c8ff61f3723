"""Pictures of the page of claims, as PNG."""

import io
from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.claims.surfaces import Landscape
from research.reporting.plots import COLORS

_GRID = 161  # points along each side
_LEVELS = 14  # a factor of 2 or 3 apart


def contours(paths: dict[str, dict[str, np.ndarray]], landscapes: Sequence[Landscape]) -> bytes:
    """One path of each optimiser over each landscape.

    Args:
      paths: by landscape and optimiser, (steps + 1, 2).
      landscapes: fewer than three times as many as there are rows, to leave room for the legend.
    """
    rows = len(landscapes) // 3 + 1
    figure, axes = _subplots(rows, 3, (11, 3.4 * rows))
    for axis, landscape in zip(axes, landscapes, strict=False):
        left, right, bottom, top = landscape.box
        x, y = np.linspace(left, right, _GRID), np.linspace(bottom, top, _GRID)
        height = np.asarray(landscape.height(np.stack(np.meshgrid(x, y))), np.float64)
        levels = height.max() * np.geomspace(1e-4, 1, _LEVELS)
        axis.contourf(x, y, np.log(np.maximum(height, levels[0] / 10)), np.log(levels),
                      cmap="Blues_r", alpha=0.35, extend="min")  # fmt: skip
        axis.contour(x, y, height, levels, colors="#7f9bb5", linewidths=0.4)
        for number, (name, path) in enumerate(paths[landscape.name].items()):
            style = {"color": COLORS[number], "linewidth": 1.3, "marker": ".", "markersize": 3.5}
            axis.plot(*path.T, label=name, **style)
        axis.plot(*landscape.start, "o", color="k", markersize=7, markerfacecolor="w", zorder=9)
        axis.plot(*zip(*landscape.minima, strict=True), "*", color="k", markersize=11, zorder=9)
        axis.set(title=landscape.name, xlim=(left, right), ylim=(bottom, top))
    handles, labels = axes[0].get_legend_handles_labels()
    handles += axes[0].lines[-2:]
    axes[-1].legend(handles, [*labels, "start", "minimum"], loc="center", frameon=False)
    for axis in axes[len(landscapes) :]:
        axis.set_axis_off()
    return _png(figure)


def panels(drawings: Sequence[Callable], legend: str = "best") -> bytes:
    """Beside one another, each drawn by a function of its axes; where the legend goes."""
    figure, axes = _subplots(1, len(drawings), (5.5 * len(drawings), 4))
    for axis, draw in zip(axes, drawings, strict=True):
        draw(axis)
        axis.grid(color="#e8e8e8")
        axis.legend(fontsize=9, loc=legend)
    return _png(figure)


def _subplots(rows: int, columns: int, size: tuple[float, float]):
    from matplotlib.figure import Figure  # of the extra `bench`; no window, no global state

    figure = Figure(size, layout="constrained")
    return figure, np.ravel(figure.subplots(rows, columns, squeeze=False))


def _png(figure) -> bytes:
    """In 128 colours: a third of the size."""
    from PIL import Image

    drawn, packed = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=100)
    Image.open(drawn).convert("RGB").quantize(128).save(packed, "PNG", optimize=True)
    return packed.getvalue()
