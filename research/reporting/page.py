"""The report of one run, or of several compared: one HTML file that opens offline."""

import dataclasses
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from research import config as configuration
from research import formats, npz
from research.errors import UserError
from research.json_files import read_json, read_jsonl, write_text
from research.reporting import pictures, plots
from research.reporting.records import NO_METRICS, read_metrics
from research.reporting.rendering import Table, render, values

_MAX_BYTES = 2**30  # of pictures

# Of training, not of the network: drawn last.
_COURSE = ("learning_rate", "examples_per_second")


@dataclasses.dataclass(frozen=True)
class Run:
    """Hold the contents of a run folder; without an end it has no `summary` and no `arrays`."""

    name: str
    config: dict  # flat: {'optimizer.learning_rate': 0.001, ...}
    metrics: list[dict]
    history: list[dict]
    environment: dict
    summary: dict
    arrays: dict[str, np.ndarray]  # of evaluation.npz

    @property
    def status(self) -> str:
        """Return what happened last."""
        event = self.history[-1]["event"] if self.history else "start"
        return {"finish": "finished", "diverged": "diverged", "interrupted": "interrupted"}.get(
            event, "running, or killed"
        )


def read_run(workdir: Path) -> Run:
    """Read a run folder, finished or not.

    Raises:
      UserError: the folder holds no run, or one of its files is damaged.
    """
    if not (workdir / "config.json").exists():
        raise UserError(f"{str(workdir)!r} is not a run folder (it has no config.json)")

    def optional(name: str) -> dict:
        return read_json(workdir / name) if (workdir / name).exists() else {}

    arrays = {}
    try:
        arrays = npz.load(workdir / "evaluation.npz", _MAX_BYTES)
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise UserError(f"{workdir / 'evaluation.npz'}: not readable ({error})") from None
    return Run(
        name=workdir.resolve().name,
        config=configuration.flatten(configuration.read(workdir / "config.json", trusted=True)),
        metrics=[record for record in read_metrics(workdir) if "epoch" in record],
        history=read_jsonl(workdir / "history.jsonl"),
        environment=optional("environment.json"),
        summary=optional("summary.json"),
        arrays=arrays,
    )


def write_report(workdirs: Sequence[Path], path: Path) -> None:
    """Draw one run, or several compared, into an HTML file.

    Raises:
      UserError: a folder without a run, or a file that cannot be written.
    """
    runs = [read_run(Path(workdir)) for workdir in workdirs]
    if len({run.name for run in runs}) < len(runs):  # tell a/run from b/run
        runs = [
            dataclasses.replace(run, name=str(workdir))
            for run, workdir in zip(runs, workdirs, strict=True)
        ]
    try:
        html = _page(runs)
    except Exception as error:  # files that can be read, but hold something else
        names = ", ".join(map(str, workdirs))
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{names}: damaged, it cannot be drawn ({reason})") from None
    try:
        write_text(path, html)
    except OSError as error:
        raise UserError(f"{str(path)!r}: {error.strerror}") from None


def _page(runs: Sequence[Run]) -> str:
    single = len(runs) == 1
    return render(
        "run.html",
        " and ".join(run.name for run in runs),
        tiles=_tiles(runs[0]) if single else (),
        comparison=None if single else _comparison(runs),
        divergences=list(filter(None, (_divergence(run, single) for run in runs))),
        results=_results(runs[0]) if single else None,
        ensembles=[
            (_titled(run, f"Ensemble of {len(run.summary['members'])}", single), _members(run))
            for run in runs
            if run.summary.get("members")
        ],
        curves=_curves(runs),
        has_members=any("members" in record for run in runs for record in run.metrics),
        sections=[
            dataclasses.replace(section, title=_titled(run, section.title, single))
            for run in runs
            for section in pictures.sections(run.arrays)
        ],
        **_settings(runs),
        histories=[(_titled(run, "History", single), _history(run)) for run in runs],
    )


def _titled(run: Run, title: str, single: bool) -> str:
    return title if single else f"{run.name}: {title}"


def objective(run: Run) -> str | None:
    """Return the metric that the run is judged by; None if it has no metrics.

    The summary or the config names it. Otherwise it is the first metric of the summary, or of the
    records.
    """
    metrics = _metrics([run])
    chosen = run.summary.get("objective"), run.config.get("early_stopping.metric")
    first = [name for name in (*chosen, *_tested(run.summary), *metrics) if name != "loss"]
    return next((name for name in first if name in metrics), next(iter(metrics), None))


def _metrics(runs: Iterable[Run], kind: type | tuple = (int, float)) -> list[str]:
    """Return the names of the metrics in the records, the loss first, then in their order."""
    names = dict.fromkeys(
        name
        for run in runs
        for record in run.metrics
        for name, value in record.items()
        if isinstance(value, kind) and name not in (*NO_METRICS, *_COURSE)
    )
    return sorted(names, key=lambda name: name != "loss")


def _ordered(names: Iterable[str], first: Iterable[str | None]) -> list[str]:
    """Return names with some of them moved to the front."""
    names = list(names)
    return list(dict.fromkeys([*(name for name in first if name in names), *names]))


def _curves(runs: Sequence[Run]) -> list[dict]:
    metrics = _ordered(_metrics(runs), ("loss", *map(objective, runs)))
    drawn = [plots.curves(runs, metric) for metric in metrics]
    for run in runs:
        names = pictures.output_names(run.arrays)
        for metric in _metrics([run], list):
            drawn += plots.entries(run, metric, names)
    drawn += [plots.curves(runs, metric, from_zero=True) for metric in _COURSE]
    return [plot for plot in drawn if plot]


def _tested(summary: dict, prefix: str = "test_") -> dict[str, float]:
    """Return the numbers of a summary that begin with a prefix, by what follows it."""
    return {
        name.removeprefix(prefix): value
        for name, value in summary.items()
        if name.startswith(prefix) and _is_number(value)
    }


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tiles(run: Run) -> list[tuple[str, str]]:
    summary, tiles = run.summary, [("status", run.status)]
    judged = objective(run)
    if summary.get("diverged"):
        tiles.append(("diverged at step", f"{summary['steps']:,}"))
    tested, averaged = _tested(summary), _tested(summary, "averaged_test_")
    for name in dict.fromkeys((judged, "loss")):
        if name in tested:
            tiles.append((f"test {formats.words(name)}", formats.shown(name, tested[name])))
        if name in averaged and name != "loss":
            title = f"test {formats.words(name)}, averaged weights"
            tiles.append((title, formats.shown(name, averaged[name])))
    if summary.get("stopped_early"):
        tiles.append(("tested step; stopped early", f"{summary['tested_step']:,}"))
    validation = _values(run, "validation", judged)
    higher = formats.higher_is_better(judged or "")
    if validation and higher is not None:
        best = max(validation) if higher else min(validation)
        title = f"best validation {formats.words(judged)}"
        tiles.append((title, formats.shown(judged, best)))
    if run.metrics:
        last = run.metrics[-1]
        tiles.append(("epochs", f"{last['epoch']:.1f}"))
        tiles.append(("steps", f"{last['step']:,}"))
    if "parameter_count" in summary:
        tiles.append(("parameters", f"{summary['parameter_count']:,}"))
    if summary:
        tiles.append(("from start to end", formats.duration(summary["wall_seconds"])))
        tiles.append(("of that compiling", formats.duration(summary["compile_seconds"])))
        tiles.append(("examples / second", formats.number(summary["examples_per_second"])))
    return tiles


def _values(run: Run, split: str, metric: str | None) -> list[float]:
    values = (record.get(metric) for record in run.metrics if record["split"] == split)
    return [value for value in values if _is_number(value)]


def _results(run: Run) -> Table | None:
    """Return every metric: of the test, and what it came to on the other splits."""
    columns = {
        "test": _tested(run.summary),
        "test, averaged weights": _tested(run.summary, "averaged_test_"),
    }
    for split in plots.SPLITS[::-1]:
        last = {name: _values(run, split, name)[-1:] for name in _metrics([run])}
        title = f"{split.replace('_', ', ')}, last"
        columns[title] = {name: ending[0] for name, ending in last.items() if ending}
    columns = {title: column for title, column in columns.items() if column}
    names = _ordered((name for c in columns.values() for name in c), (objective(run), "loss"))
    rows = [
        [formats.words(name), *(formats.shown(name, c.get(name)) for c in columns.values())]
        for name in names
    ]
    return Table(("metric", *columns), rows, numbers_from=1) if rows else None


def _divergence(run: Run, single: bool) -> str:
    """Return how a run diverged; '' for others."""
    summary = run.summary
    if not summary.get("diverged"):
        return ""
    where = f", first in {summary['layer']}" if summary["layer"] else ""
    line = f"Diverged: {summary['what']} at step {summary['steps']:,}{where}"
    line = f"{line}. Likely cause: {summary['cause']}. It was not tested."
    return line if single else f"{run.name}: {line}"


def _members(run: Run) -> Table:
    """Return the ensemble beside each of its networks alone."""
    summary, mean, spread = run.summary, run.summary["members_mean"], run.summary["members_spread"]
    keys = _ordered((f"test_{name}" for name in _tested(mean)), (f"test_{objective(run)}",))
    rows = [
        ["averaged predictions", *(formats.shown(key, summary.get(key)) for key in keys)],
        [
            "mean alone",
            *(f"{formats.shown(key, mean[key])} ± {formats.shown(key, spread[key])}"
              for key in keys),
        ],
    ]  # fmt: skip
    for member in summary["members"]:
        name = f"seed {member['seed']}, step {member['step']:,}"
        rows.append([name, *(formats.shown(key, member[key]) for key in keys)])
    return Table(("", *map(formats.words, keys)), rows, numbers_from=1)


def _comparison(runs: Sequence[Run]) -> Table:
    tests = (f"test_{name}" for run in runs for name in _tested(run.summary))
    first = [f"test_{name}" for name in (*map(objective, runs), "loss")]
    keys = (*_ordered(tests, first), "epochs", "parameter_count", "wall_seconds")
    rows = [
        [run.name, run.status, *(formats.shown(key, run.summary.get(key)) for key in keys)]
        for run in runs
    ]
    return Table(("run", "status", *map(formats.words, keys)), rows, numbers_from=2)


def _settings(runs: Sequence[Run]) -> dict[str, Any]:
    names = [run.name for run in runs]
    heads = ("key", *names) if len(runs) > 1 else ("key", "value")
    config = values(heads, [run.config for run in runs])
    different = [row for row in config.rows if len(set(map(repr, row[1:]))) > 1]
    return {
        "config": config,
        "differing": Table(heads, different) if len(runs) > 1 else None,
        "environment": values(heads, [run.environment for run in runs]),
    }


def _history(run: Run) -> Table:
    keys = ("time", "event", "step", "changes")
    rows = [[entry.get(key, "") for key in keys] for entry in run.history]
    return Table(("time (UTC)", *keys[1:]), rows)
