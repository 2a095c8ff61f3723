"""Draw the arrays of `evaluation.npz`, from the test split, as sections of a report.

A section is drawn if its arrays are there; nothing asks which task wrote them.
"""

import base64
import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np

from research.formats import percent
from research.reporting import evaluation_plots as plots
from research.reporting.rendering import Table

_RECALLS = 20  # classes whose recall is listed
_COLUMNS = 12  # of targets that are drawn


@dataclasses.dataclass(frozen=True)
class Section:
    """A title, and what stands below it."""

    title: str
    note: str = ""
    plots: Sequence[dict] = ()  # beside each other, if there are several
    table: Table | None = None
    images: Sequence[tuple[str, str]] = ()  # the image as a data URI, and its caption
    image_class: str = ""  # of the style sheet
    texts: Sequence[str] = ()


def sections(arrays: dict[str, np.ndarray]) -> list[Section]:
    """Return the sections that the arrays are enough for."""
    makers = (_classes, _calibration, _plane, _regression, _labels, _tokens, _mistakes, _filters)
    return [section for maker in makers for section in maker(arrays)]


def output_names(arrays: dict[str, np.ndarray]) -> list[str]:
    """Return the names of what a model's outputs stand for: classes, labels or target columns."""
    keys = ("class_names", "label_names", "regression_names")
    return next((_names(arrays, key) for key in keys if key in arrays), [])


def _classes(arrays: dict) -> Iterator[Section]:
    names = output_names(arrays)
    if "confusion" in arrays:
        plot = plots.confusion_matrix(arrays["confusion"], names)
        yield Section("Confusion matrix, test split", plots=[plot])
    elif "confused" in arrays:
        pairs = [(names[a], names[b], f"{count:,}") for a, b, count in arrays["confused"]]
        table = Table(("true class", "predicted class", "examples"), pairs, numbers_from=2)
        yield Section("Most frequent mistakes, test split", table=table)
    if "class_examples" in arrays:
        examples, hits = arrays["class_examples"], arrays["class_hits"]
        recall = hits / np.maximum(examples, 1)
        present = np.flatnonzero(examples)
        worst = present[np.argsort(recall[present], kind="stable")][:_RECALLS]
        note = f"The lowest {len(worst)} of {len(names):,} classes."
        rows = [(names[c], f"{examples[c]:,}", percent(float(recall[c]))) for c in worst]
        yield Section(
            "Recall by class, test split",
            note=note if len(worst) < len(names) else "",
            table=Table(("class", "examples", "recall"), rows, numbers_from=1),
        )


def _calibration(arrays: dict) -> Iterator[Section]:
    if "reliability_counts" in arrays:
        bins = (arrays[f"reliability_{name}"] for name in ("counts", "confidences", "accuracies"))
        yield Section("Reliability, test split", plots=[plots.reliability_diagram(*bins)])


def _plane(arrays: dict) -> Iterator[Section]:
    if "plane_classes" in arrays:
        plot = plots.decision_regions(arrays, _names(arrays, "class_names"))
        yield Section("Decision regions and test points", plots=[plot])


def _regression(arrays: dict) -> Iterator[Section]:
    if "regression_targets" not in arrays:
        return
    names = _names(arrays, "regression_names")
    drawn = []
    for column, name in enumerate(names[:_COLUMNS]):
        targets = arrays["regression_targets"][:, column]
        predicted = arrays["regression_predictions"][:, column]
        finite = np.isfinite(targets) & np.isfinite(predicted)
        if finite.any():
            drawn.append(plots.predictions(name, targets[finite], predicted[finite]))
            drawn.append(plots.residuals(name, targets[finite], predicted[finite]))
    left_out = f" The first {_COLUMNS} of {len(names):,} columns." if len(names) > _COLUMNS else ""
    yield Section(
        "Predictions and errors, test split",
        note=f"In the unit of the targets, {len(arrays['regression_targets']):,} examples. On the "
        f"dashed line a prediction is right.{left_out}",
        plots=drawn,
    )


def _labels(arrays: dict) -> Iterator[Section]:
    if "label_average_precision" not in arrays:
        return
    names = _names(arrays, "label_names")
    counts = arrays["label_counts"]
    bars = plots.average_precisions(names, arrays["label_average_precision"], counts)
    note = "Each with the number of examples that have the label."
    yield Section("Average precision by label, test split", note=note, plots=[bars])
    if "label_precision" in arrays:
        drawn = np.sort(np.argsort(-counts, kind="stable")[: plots.MOST_CURVES])
        drawn = [int(label) for label in drawn if counts[label]]
        few = f"The {len(drawn)} most frequent of {len(names):,} labels."
        yield Section(
            "Precision and recall, test split",
            note=few if len(drawn) < np.count_nonzero(counts) else "",
            plots=[
                plots.precision_recall(
                    names, arrays["label_precision"], arrays["label_recall"], drawn
                )
            ],
        )


def _tokens(arrays: dict) -> Iterator[Section]:
    if "position_loss" in arrays:
        yield Section(
            "Loss by position, test split",
            note="The first tokens of a sequence have little before them to be predicted from.",
            plots=[plots.loss_by_position(arrays["position_loss"])],
        )
    if len(arrays.get("samples", ())):
        yield Section(
            "Samples",
            note="Text that the model wrote, one token after the other; the prompt comes first.",
            texts=[str(sample) for sample in arrays["samples"]],
        )


def _mistakes(arrays: dict) -> Iterator[Section]:
    if not len(arrays.get("mistake_images", ())):
        return
    names = _names(arrays, "class_names")
    rows = zip(
        arrays["mistake_images"],
        arrays["mistake_labels"],
        arrays["mistake_predictions"],
        arrays["mistake_confidences"],
        strict=True,
    )
    images = [
        (_data_uri(image), f"{names[label]}, taken for {names[predicted]} ({confidence:.0%})")
        for image, label, predicted, confidence in rows
    ]
    title = "Most confident mistakes, test split"
    yield Section(title, images=images, image_class="mistakes")


def _filters(arrays: dict) -> Iterator[Section]:
    if "filters" not in arrays:
        return
    images = []
    for weights in arrays["filters"]:
        largest = float(np.abs(weights).max()) or 1.0
        images.append((_data_uri(np.round(127.5 + 127.5 * weights / largest).astype(np.uint8)), ""))
    note = "Grey is zero; each filter is scaled to its largest weight."
    yield Section("First-layer filters", note=note, images=images, image_class="filters")


def _names(arrays: dict, key: str) -> list[str]:
    return [str(name) for name in arrays[key]]


def _data_uri(pixels: np.ndarray) -> str:
    """Return an image, uint8 (H, W, 1 or 3), as a PNG in a data URI."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(file, "PNG")
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"
