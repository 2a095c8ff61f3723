"""HTML files from `templates/`: each holds all it needs, so that it opens offline."""

import functools
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

TEMPLATES = Path(__file__).parent / "templates"


class Table(NamedTuple):
    """A table; the columns from `numbers_from` on are aligned as numbers."""

    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]
    numbers_from: int = 99


class Figures:
    """The figures of a page, in the order in which its template shows them."""

    def __init__(self):
        self.plots: list[dict] = []

    def __call__(self, plot: dict | None):
        """Return the element that Plotly will draw a figure of `plots` in; '' for None."""
        from markupsafe import Markup

        if plot is None:
            return ""
        self.plots.append(plot)
        kind = plot["layout"].get("meta", "wide")
        return Markup('<div id="figure{}" class="{}"></div>').format(len(self.plots) - 1, kind)


def render(template: str, title: str, **context: Any) -> str:
    """Return a page. Templates escape all values; `figure(plot)` puts a figure in its place.

    Args:
      template: a file of `templates/`.
      title: of the page.
      **context: what the template shows.
    """
    from markupsafe import Markup

    figure = Figures()
    page = _environment().get_template(template)
    return page.render(title=title, figure=figure, plotly_script=Markup(plotly_script()), **context)


def values(heads: Sequence[str], columns: Sequence[dict]) -> Table:
    """Return a table of the keys that any of the columns has, and of their values in each."""
    keys = dict.fromkeys(key for column in columns for key in column)
    return Table(heads, [[key, *(column.get(key, "") for column in columns)] for key in keys])


@functools.cache
def plotly_script() -> str:
    """Return Plotly's library as text. An import of Plotly would take as long as all the rest."""
    package = Path(importlib.util.find_spec("plotly").origin).parent
    return (package / "package_data" / "plotly.min.js").read_text(encoding="utf-8")


@functools.cache
def _environment():
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    return environment
