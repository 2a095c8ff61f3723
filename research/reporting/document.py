"""The document of a report: one HTML file with everything in it, so that it opens offline."""

import importlib.util
import json
from collections.abc import Sequence
from datetime import timedelta
from html import escape
from pathlib import Path

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1180px; margin: 0 auto;
  padding: 24px; }
h1 { font-size: 26px; margin: 0 0 4px; } h2 { font-size: 19px; margin: 36px 0 8px; }
p { margin: 4px 0 12px; color: #555; }
.tiles { display: flex; flex-wrap: wrap; gap: 12px; margin: 16px 0; }
.tile { border: 1px solid #ddd; border-radius: 6px; padding: 8px 16px; }
.tile b { display: block; font-size: 21px; } .tile span { color: #555; font-size: 13px; }
.grid { display: grid; grid-template-columns: 1fr 1fr; gap: 16px; }
@media (max-width: 800px) { .grid { grid-template-columns: 1fr; } }
.images { display: flex; flex-wrap: wrap; gap: 12px; }
figure { margin: 0; font-size: 13px; } figcaption { max-width: 112px; overflow-wrap: anywhere; }
img { image-rendering: pixelated; display: block; border: 1px solid #ccc; }
.mistakes img { width: 112px; height: 112px; object-fit: contain; background: #eee; }
.filters { gap: 4px; } .filters img { width: 56px; height: 56px; }
table { border-collapse: collapse; font-size: 13px; }
td, th { text-align: left; padding: 3px 16px 3px 0; border-bottom: 1px solid #eee;
  vertical-align: top; overflow-wrap: anywhere; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums;
  overflow-wrap: normal; }
td:first-child { overflow-wrap: normal; }
.scroll { overflow-x: auto; } .columns { columns: 2; }
.columns .scroll { overflow: visible; } summary { cursor: pointer; }
pre { background: #f5f5f5; border-radius: 6px; padding: 8px 12px; white-space: pre-wrap;
  overflow-wrap: anywhere; }
.flag { display: inline-block; }
.warning { border-left: 4px solid #E69F00; padding-left: 12px; color: #222; }
"""


class Figures:
    """What Plotly's script shall draw, and where: calling it with a figure gives its place."""

    def __init__(self):
        self._found: list[dict] = []

    def __call__(self, found: dict | None) -> str:
        """The element that a figure of `plots` will stand in; '' of none."""
        if found is None:
            return ""
        self._found.append(found)
        return f'<div id="figure{len(self._found) - 1}"></div>'

    @property
    def script(self) -> str:
        """Draws them."""
        return "".join(
            f"Plotly.newPlot('figure{place}', {script(found['data'])}, {script(found['layout'])},"
            "{responsive: true, displaylogo: false, "
            "modeBarButtons: [['toImage', 'resetScale2d']]});\n"
            for place, found in enumerate(self._found)
        )


def document(title: str, body: Sequence[str], figures: Figures) -> str:
    """The whole file; `body` is HTML, `title` is text."""
    title = escape(title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        '<meta name="viewport" content="width=device-width"><link rel="icon" href="data:,">'
        f"<style>{_STYLE}</style></head><body><h1>{title}</h1>"
        + "\n".join(body)
        + f"<script>{plotly_script()}</script><script>{figures.script}</script></body></html>\n"
    )


def tiles(shown: Sequence[tuple[str, str]]) -> str:
    """Names and what they are, large."""
    cells = (
        f'<div class="tile"><b>{escape(v)}</b><span>{escape(k)}</span></div>' for k, v in shown
    )
    return f'<div class="tiles">{"".join(cells)}</div>'


def values(heads: Sequence[str], keys: Sequence[str], columns: Sequence[dict]) -> str:
    """A table of keys, and what each column has for them."""
    return table(heads, [[key, *(column.get(key, "") for column in columns)] for key in keys])


def table(heads: Sequence[str], rows: Sequence[Sequence], numbers_from: int = 99) -> str:
    """Rows of text; the cells of the columns from `numbers_from` on are aligned as numbers."""

    def line(cells, tag):
        shown = (
            f"<{tag}{' class=number' if column >= numbers_from else ''}>{escape(str(cell))}</{tag}>"
            for column, cell in enumerate(cells)
        )
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(line(row, "td") for row in rows)
    return f'<div class="scroll"><table>{line(heads, "th")}{body}</table></div>'


def plotly_script() -> str:
    """Plotly's library, without importing it, which would take as long as all the rest."""
    package = Path(importlib.util.find_spec("plotly").origin).parent
    return (package / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


def script(value) -> str:
    """JSON that cannot end the <script> it stands in."""
    return json.dumps(value, separators=(",", ":")).replace("<", "\\u003c")


def percent(value: float | None) -> str:
    """A share as text."""
    return "" if value is None else f"{value:.2%}"


def number(value: float | None) -> str:
    """A number as text, to four digits."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """A time as text."""
    return f"{seconds:.1f} s" if seconds < 100 else str(timedelta(seconds=round(seconds)))
