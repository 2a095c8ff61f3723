"""The report of one run, or of several compared: one HTML file that opens offline."""

import base64
import dataclasses
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from research import config as configuration
from research import npz
from research.errors import UserError
from research.json_files import read_json, read_jsonl, write_text
from research.reporting import plots
from research.reporting.document import (
    Figures,
    document,
    number,
    percent,
    table,
    tiles,
    values,
)
from research.reporting.records import read_metrics

_MAX_BYTES = 2**30  # of pictures

_RECALLS = 20  # classes whose recall is told

_NEEDED = {"step", "epoch", "loss", "accuracy"}  # of a record, to draw it


@dataclasses.dataclass(frozen=True)
class Run:
    """What a run folder holds; a run that is still going has no `summary` and no `pictures`."""

    name: str
    config: dict  # flat: {'optimizer.learning_rate': 0.001, ...}
    metrics: list[dict]
    history: list[dict]
    environment: dict
    summary: dict
    pictures: dict[str, np.ndarray]

    @property
    def status(self) -> str:
        """In one word, what happened last."""
        event = self.history[-1]["event"] if self.history else "start"
        return {"finish": "finished", "diverged": "diverged", "interrupted": "interrupted"}.get(
            event, "running, or killed"
        )


def read_run(workdir: Path) -> Run:
    """Reads a run folder, finished or not.

    Raises:
      UserError: there is no run, or one of its files is damaged.
    """
    if not (workdir / "config.json").exists():
        raise UserError(f"{str(workdir)!r} is not a run folder (it has no config.json)")

    def optional(name: str) -> dict:
        return read_json(workdir / name) if (workdir / name).exists() else {}

    path = workdir / "config.json"  # read first: the rest is nothing without it
    pictures = {}
    try:
        pictures = npz.load(workdir / "evaluation.npz", _MAX_BYTES)
    except FileNotFoundError:
        pass
    except ValueError as error:
        raise UserError(f"{workdir / 'evaluation.npz'}: not readable ({error})") from None
    return Run(
        name=workdir.resolve().name,
        config=configuration.flatten(configuration.read(path)),
        metrics=[record for record in read_metrics(workdir) if record.keys() >= _NEEDED],
        history=read_jsonl(workdir / "history.jsonl"),
        environment=optional("environment.json"),
        summary=optional("summary.json"),
        pictures=pictures,
    )


def write_report(workdirs: Sequence[Path], path: Path) -> None:
    """Draws one run, or several compared, into an HTML file.

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
        what = f"{type(error).__name__}: {error}"
        raise UserError(f"{names}: damaged, it cannot be drawn ({what})") from None
    try:
        write_text(path, html)
    except OSError as error:
        raise UserError(f"{str(path)!r}: {error.strerror}") from None


def _page(runs: Sequence[Run]) -> str:
    one = runs[0] if len(runs) == 1 else None
    figure = Figures()
    body = [_tiles(one) if one else _comparison(runs)]
    body += [_divergence(run, prefix=f"{run.name}: ") for run in runs if not one]
    body += [_members(run, prefix="" if one else f"{run.name}: ") for run in runs]
    body.append("<h2>Training</h2>")
    if any(run.metrics for run in runs):
        body.append('<div class="grid">')
        body.append(figure(plots.curves(runs, "loss", "loss (nats)", log=True)))
        body.append(figure(plots.curves(runs, "accuracy", "accuracy", tickformat=".0%")))
        body.append(figure(plots.curves(runs, "learning_rate", "learning rate")))
        speed = plots.curves(runs, "examples_per_second", "examples / second", tickformat="~s")
        body.append(figure(speed))
        body.append("</div>")
        body.append("<p>Train: averages since the point before, as the optimiser sees them: with")
        body.append("dropout, augmentation, label smoothing and penalties. Validation: the whole")
        body.append("split, without these, with running statistics; averaged: by the average of")
        body.append("the weights. Hover for numbers.</p>")
        if any("members" in record for run in runs for record in run.metrics):
            body.append("<p>Ensembles: the mean over the members in training, their averaged")
            body.append("predictions in validation; bands from the least to the greatest of the")
            body.append("members, each alone.</p>")
    else:
        body.append("<p>No metrics yet.</p>")
    for run in runs:
        body.append(_pictures(run, figure, prefix="" if one else f"{run.name}: "))
    body.append(_settings(runs))
    return document(" and ".join(run.name for run in runs), body, figure)


def _tiles(run: Run) -> str:
    shown = [("status", run.status)]
    summary = run.summary
    validation = [r["accuracy"] for r in run.metrics if r["split"] == "validation"]
    if summary.get("diverged"):
        shown.append(("diverged at step", f"{summary['steps']:,}"))
    elif summary:
        shown.append(("test accuracy", percent(summary["test_accuracy"])))
        shown.append(("test loss (nats)", number(summary["test_loss"])))
        if "test_balanced_accuracy" in summary:
            shown.append(("test balanced accuracy", percent(summary["test_balanced_accuracy"])))
            share = percent(summary["test_majority_share"])
            shown.append(("share of the most frequent class", share))
        if "test_ece" in summary:
            shown.append(("test calibration error", percent(summary["test_ece"])))
        if "averaged_test_accuracy" in summary:
            averaged = summary["averaged_test_accuracy"]
            shown.append(("test accuracy, averaged weights", percent(averaged)))
        if summary.get("stopped_early"):
            shown.append(("tested step; stopped early", f"{summary['tested_step']:,}"))
    if validation:
        shown.append(("best validation accuracy", percent(max(validation))))
    if run.metrics:
        last = run.metrics[-1]
        shown.append(("epochs", f"{last['epoch']:.1f}"))
        shown.append(("steps", f"{last['step']:,}"))
    if "parameter_count" in summary:
        shown.append(("parameters", f"{summary['parameter_count']:,}"))
    if summary:
        shown.append(("from start to end", f"{summary['wall_seconds']:.1f} s"))
        shown.append(("of that compiling", f"{summary['compile_seconds']:.1f} s"))
        shown.append(("examples / second", number(summary["examples_per_second"])))
    return tiles(shown) + _divergence(run, prefix="")


def _divergence(run: Run, prefix: str) -> str:
    """How a run ended that diverged; '' for others."""
    summary = run.summary
    if not summary.get("diverged"):
        return ""
    where = f", first in {summary['layer']}" if summary["layer"] else ""
    line = (
        f"{prefix}Diverged: {summary['what']} at step {summary['steps']:,}{where}. Likely cause: "
    )
    return f"<p>{escape(line + summary['cause'])}. There is no test of it.</p>"


def _members(run: Run, prefix: str) -> str:
    """The ensemble beside each of its networks alone."""
    members = run.summary.get("members")
    if not members:
        return ""
    shown = (("test_accuracy", percent), ("test_loss", "{:.4f}".format))
    shown += (("test_ece", "{:.4f}".format),)
    mean, spread = run.summary["members_mean"], run.summary["members_spread"]
    rows = [
        ["averaged predictions", *(form(run.summary[key]) for key, form in shown)],
        ["mean alone", *(f"{form(mean[key])} \u00b1 {form(spread[key])}" for key, form in shown)],
    ]
    for member in members:
        name = f"seed {member['seed']}, step {member['step']:,}"
        rows.append([name, *(form(member[key]) for key, form in shown)])
    heads = ("", "test accuracy", "test loss (nats)", "calibration error (ECE)")
    title = f"<h2>{escape(prefix)}Ensemble of {len(members)}</h2>"
    return title + table(heads, rows, numbers_from=1)


def _comparison(runs: Sequence[Run]) -> str:
    keys = ("test_accuracy", "test_loss", "epochs", "parameter_count", "wall_seconds")
    rows = []
    for run in runs:
        cells = [run.name, run.status]
        for key in keys:
            value = run.summary.get(key)
            cells.append(percent(value) if key == "test_accuracy" else number(value))
        rows.append(cells)
    heads = ("run", "status", *(key.replace("_", " ") for key in keys))
    return f"<h2>Result</h2>{table(heads, rows, numbers_from=2)}"


def _pictures(run: Run, figure, prefix: str) -> str:
    found = run.pictures
    if not found:
        return ""
    prefix = escape(prefix)
    names = [str(name) for name in found["class_names"]]
    parts = []
    if "confusion" in found:
        parts.append(f"<h2>{prefix}Confusion matrix, test split</h2>")
        parts.append(figure(plots.confusion_matrix(found["confusion"], names)))
    else:
        pairs = [[names[a], names[b], f"{count:,}"] for a, b, count in found["confused"]]
        parts.append(f"<h2>{prefix}Most frequent mistakes, test split</h2>")
        parts.append(table(("true class", "predicted class", "examples"), pairs, numbers_from=2))
    if "class_examples" in found:
        parts.append(_recalls(names, found["class_examples"], found["class_hits"], prefix))
    if "reliability_counts" in found:
        parts.append(f"<h2>{prefix}Reliability, test split</h2>")
        bins = (found[f"reliability_{name}"] for name in ("counts", "confidences", "accuracies"))
        parts.append(figure(plots.reliability_diagram(*bins)))
    if "plane_classes" in found:
        parts.append(f"<h2>{prefix}Decision regions and test points</h2>")
        parts.append(figure(plots.decision_regions(found, names)))
    if len(found.get("mistake_images", ())):
        parts.append(f"<h2>{prefix}Most confident mistakes, test split</h2>")
        parts.append('<div class="images mistakes">')
        for image, label, predicted, confidence in zip(
            found["mistake_images"],
            found["mistake_labels"],
            found["mistake_predictions"],
            found["mistake_confidences"],
            strict=True,
        ):
            caption = f"{names[label]}, taken for {names[predicted]} ({confidence:.0%})"
            parts.append(
                f"<figure>{_image(image)}<figcaption>{escape(caption)}</figcaption></figure>"
            )
        parts.append("</div>")
    if "filters" in found:
        parts.append(f"<h2>{prefix}First-layer filters</h2>")
        parts.append("<p>Grey is zero; each is scaled to its largest weight.</p>")
        parts.append('<div class="images filters">')
        for weights in found["filters"]:
            largest = float(np.abs(weights).max()) or 1.0
            parts.append(_image(np.round(127.5 + 127.5 * weights / largest).astype(np.uint8)))
        parts.append("</div>")
    return "\n".join(parts)


def _recalls(names: list[str], examples: np.ndarray, hits: np.ndarray, prefix: str) -> str:
    """Draw a table of the share of each class that is found, the worst classes first."""
    recall = hits / np.maximum(examples, 1)
    occurs = np.flatnonzero(examples)
    worst = occurs[np.argsort(recall[occurs], kind="stable")][:_RECALLS]
    title = f"<h2>{prefix}Recall by class, test split</h2>"
    if len(worst) < len(names):
        title += f"<p>The lowest {len(worst)} of {len(names):,} classes.</p>"
    rows = [[names[of], f"{examples[of]:,}", percent(float(recall[of]))] for of in worst]
    return title + table(("class", "examples", "recall"), rows, numbers_from=1)


def _settings(runs: Sequence[Run]) -> str:
    parts = ["<h2>Config</h2>"]
    names = [run.name for run in runs]
    keys = list(dict.fromkeys(key for run in runs for key in run.config))
    if len(runs) > 1:
        different = [key for key in keys if len({repr(run.config.get(key)) for run in runs}) > 1]
        parts.append("<p>What differs:</p>")
        parts.append(values(("key", *names), different, [run.config for run in runs]))
        parts.append("<details><summary>All keys</summary>")
        parts.append(values(("key", *names), keys, [run.config for run in runs]) + "</details>")
    else:
        told = values(("key", "value"), keys, [runs[0].config])
        parts.append(f'<div class="columns">{told}</div>')
    parts.append("<h2>Environment</h2>")
    keys = list(dict.fromkeys(key for run in runs for key in run.environment))
    heads = ("what", *names) if len(runs) > 1 else ("what", "value")
    parts.append(values(heads, keys, [run.environment for run in runs]))
    for run in runs:
        parts.append(f"<h2>{escape(run.name + ': ' if len(runs) > 1 else '')}History</h2>")
        rows = [
            [entry.get("time"), entry.get("event"), entry.get("step"), entry.get("changes", "")]
            for entry in run.history
        ]
        parts.append(table(("time (UTC)", "event", "step", "changes"), rows))
    return "\n".join(parts)


def _image(pixels: np.ndarray) -> str:
    """Uint8 (H, W, 1 or 3) as an <img>."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="" src="data:image/png;base64,{data}">'
