"""The report: what it shows, that nothing in it can run, and that a browser draws it."""

import json
from pathlib import Path

import numpy as np
import pytest
from browser import drawn

from research import config as configuration
from research import formats
from research.errors import UserError
from research.json_files import read_jsonl
from research.reporting import page, pictures, plots
from research.reporting.records import MetricWriter, append_history
from research.reporting.rendering import plotly_script

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
FIGURE = '<div id="figure'

CLASSIFICATION = {"accuracy": lambda t: 1 - 0.5**t, "macro_f1": lambda t: 0.9 - 0.5**t}
REGRESSION = {"rmse": lambda t: 40 + 30 / t, "mae": lambda t: 30 + 20 / t,
              "r2": lambda t: 0.6 - 0.9 / t}  # fmt: skip
MULTILABEL = {"mean_average_precision": lambda t: 0.8 - 0.5 / t,
              "micro_f1": lambda t: 0.7 - 0.3 / t,
              "average_precision": lambda t: [0.8 - 0.5 / (t + n) for n in range(6)]}  # fmt: skip
TOKENS = {"bits_per_character": lambda t: 2 + 2 / t, "perplexity": lambda t: 4 + 12 / t,
          "loss_of_layer": lambda t: [1 / (t + n) for n in range(20)]}  # fmt: skip


def run_folder(workdir: Path, finished=True, metrics=CLASSIFICATION, arrays=None, epochs=3,
               **changes) -> Path:  # fmt: skip
    workdir.mkdir(parents=True)
    config = configuration.default_config()
    config.update_from_flattened_dict(changes)
    (workdir / "config.json").write_text(configuration.to_json(config))
    append_history(workdir, "start", 0)
    with MetricWriter(workdir, 0) as writer:
        for epoch in range(1, epochs + 1):
            for split in ("train", "validation"):
                time = epoch + (split == "train")
                record = {"step": 10 * epoch, "split": split, "loss": 1 / time, "epoch": epoch}
                record |= {name: value(time) for name, value in metrics.items()}
                record["seconds"] = epoch
                if split == "train":
                    record |= {"learning_rate": 0.1 / epoch, "examples_per_second": 1e4}
                writer.write(record)
    if finished:
        append_history(workdir, "finish", 10 * epochs)
        summary = {"test_loss": 0.3, "steps": 30, "epochs": 3.0,
                   "wall_seconds": 3.0, "compile_seconds": 1.0, "examples_per_second": 1e4,
                   "parameter_count": 123, "parameters_sha256": "0"}  # fmt: skip
        summary |= {f"test_{name}": value(8) for name, value in metrics.items()}
        (workdir / "summary.json").write_text(json.dumps(summary))
        np.savez(workdir / "evaluation.npz", **(arrays or classification()))
    return workdir


def classification():
    random = np.random.default_rng(0)
    return {
        "confusion": np.array([[7, 1], [2, 6]]),
        "class_names": np.array([EVIL, "b"]),
        "reliability_counts": np.array([0, 3, 13]),
        "reliability_confidences": np.array([0.0, 0.6, 0.95]),
        "reliability_accuracies": np.array([0.0, 0.5, 0.9]),
        "mistake_images": random.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8),
        "mistake_labels": np.array([0, 1, 1]),
        "mistake_predictions": np.array([1, 0, 0]),
        "mistake_confidences": np.array([0.9, 0.8, 0.7]),
        "filters": random.standard_normal((4, 3, 3, 3)).astype(np.float32),
    }


def regression(columns=2):
    random = np.random.default_rng(0)
    targets = random.normal(150, 70, (400, columns)).astype(np.float32)
    return {
        "class_names": np.array([f"target {n}" for n in range(columns)]),
        "regression_names": np.array([f"target {n}{EVIL}" for n in range(columns)]),
        "regression_targets": targets,
        "regression_predictions": (150 + 0.6 * (targets - 150)
                                   + random.normal(0, 30, targets.shape)).astype(np.float32),
    }  # fmt: skip


def multilabel(labels=6):
    recall = np.linspace(0, 1, 50)
    area = np.linspace(0.9, 0.3, labels)
    area[-1] = np.nan
    counts = np.arange(labels)[::-1] * 37
    return {
        "label_names": np.array([f"label {n}{EVIL}" for n in range(labels)]),
        "label_average_precision": area,
        "label_precision": 1 - recall ** np.linspace(5, 1, labels)[:, None],
        "label_recall": recall,
        "label_counts": counts,
    }


def tokens():
    return {
        "position_loss": 2 + 3 / np.sqrt(np.arange(1, 129)),
        "samples": np.array([f"The quick brown\n  fox {EVIL}", "To be & not to be. " * 30]),
        "token_names": np.array(list("abc")),
    }


TASKS = {
    "classification": (CLASSIFICATION, classification),
    "regression": (REGRESSION, regression),
    "multilabel": (MULTILABEL, multilabel),
    "tokens": (TOKENS, tokens),
}


def written(tmp_path, *workdirs) -> str:
    page.write_report(workdirs, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_one_run(tmp_path):
    html = written(tmp_path, run_folder(tmp_path / "run"))
    for words in ("99.61%", "finished", "optimizer.learning_rate", "Confusion matrix",
                  "Reliability", "Most confident mistakes", "First-layer filters",
                  "Environment", "best validation accuracy", "<td>macro f1</td>"):  # fmt: skip
        assert words in html
    assert html.count('<img alt="" src="data:image/png;base64,') == 3 + 4
    assert html.count(FIGURE) == 3 + 2 + 2


@pytest.mark.parametrize(
    ("task", "figures", "told"),
    [
        ("regression", 4 + 2 + 4, ("test rmse", "43.75", "<td>r2</td>", "Predictions and errors")),
        ("multilabel", 3 + 1 + 2 + 2, ("test mean average precision", "73.75%", "185",
                                       "Average precision by label", "Precision and recall")),
        ("tokens", 3 + 2 + 2 + 1, ("test bits per character", "2.25", "best validation bits per",
                                   "Loss by position", "  fox &lt;/script&gt;&lt;script&gt;")),
    ],
)  # fmt: skip
def test_a_run_of_any_task(task, figures, told, tmp_path):
    metrics, arrays = TASKS[task]
    html = written(tmp_path, run_folder(tmp_path / "run", metrics=metrics, arrays=arrays()))
    for words in told:
        assert words in html
    ours = html.replace(plotly_script(), "")
    assert ours.count(FIGURE) == figures
    assert EVIL not in ours and "<img" not in ours and "accuracy" not in ours.partition("Config")[0]


def test_runs_of_two_tasks_can_be_compared(tmp_path):
    folders = [
        run_folder(tmp_path / task, metrics=metrics, arrays=arrays())
        for task, (metrics, arrays) in TASKS.items()
    ]
    html = written(tmp_path, *folders)
    assert '<th class="number">test accuracy</th>' in html and "test rmse</th>" in html
    assert "regression: Predictions and errors" in html


def test_the_objective_stands_first_after_the_loss(tmp_path):
    metrics = {"mae": REGRESSION["mae"], "r2": REGRESSION["r2"]}
    changes = {"metrics": metrics, "arrays": regression()}
    first = page.read_run(run_folder(tmp_path / "first", **changes))
    assert page.objective(first) == "mae"  # the first of the summary
    other = run_folder(tmp_path / "other", **changes)
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps({"test_r2": 0.5, **summary}))
    assert page.objective(page.read_run(other)) == "r2"
    (other / "summary.json").write_text(json.dumps({**summary, "objective": "r2"}))
    assert page.objective(page.read_run(other)) == "r2"
    young = recorded(train__loss=[1.0])
    assert page.objective(young) == "loss"
    html = written(tmp_path, other)
    assert html.index("<td>r2</td>") < html.index("<td>loss</td>") < html.index("<td>mae</td>")
    assert html.index('"text":"loss"') < html.index('"text":"r2"') < html.index('"text":"mae"')


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [("accuracy", 0.5, "50.00%"), ("top5", 0.5, "50.00%"), ("balanced_accuracy", 0.5, "50.00%"),
     ("macro_f1", 0.5, "50.00%"), ("micro_f1", 0.5, "50.00%"), ("ece", 0.5, "50.00%"),
     ("mean_average_precision", 0.5, "50.00%"), ("averaged_test_accuracy", 0.5, "50.00%"),
     ("r2", 0.5, "0.5"), ("rmse", 0.5, "0.5"), ("mae", 0.5, "0.5"), ("log_loss", 0.5, "0.5"),
     ("bits_per_character", 0.5, "0.5"), ("perplexity", 0.5, "0.5"), ("accuracy", 50.0, "50"),
     ("accuracy", None, ""), ("perplexity", 12345.6, "12,346")],
)  # fmt: skip
def test_shares_are_shown_in_percent(metric, value, text):
    assert formats.shown(metric, value) == text


def recorded(**values) -> page.Run:
    """A run with one metric: a list of values, one an epoch, for each split."""
    (split, metric), numbers = next(iter(values)).split("__"), next(iter(values.values()))
    records = [
        {"step": n, "epoch": n, "split": split, metric: value} for n, value in enumerate(numbers)
    ]
    return page.Run("run", {}, records, [], {}, {}, {})


def test_axes_follow_the_metric():
    def axis(**values):
        metric = next(iter(values)).split("__")[1]
        return plots.curves([recorded(**values)], metric)["layout"]["yaxis"]

    assert axis(train__loss=[1.0, 0.01])["type"] == "log"
    assert "type" not in axis(train__loss=[1.0, -0.01])
    assert "type" not in axis(train__r2=[0.1, 0.9])
    assert axis(train__accuracy=[0.1, 0.9])["tickformat"] == ".0%"
    assert axis(train__accuracy=[10.0, 90.0])["tickformat"] == "~g"
    assert plots.curves([recorded(train__loss=[None])], "loss") is None


def test_arrays_are_lines_or_heat_maps():
    few = plots.entries(
        recorded(validation__recall=[[0.1, 0.2], [0.3, None]]), "recall", ["a", "b"]
    )
    assert [trace["name"] for trace in few[0]["data"]] == ["a", "b"]
    assert few[0]["data"][0]["y"] == [0.1, 0.3] and few[0]["data"][1]["y"] == [0.2]
    many = plots.entries(recorded(train__norm=[list(range(13)), list(range(1, 14))]), "norm")
    assert many[0]["data"][0]["type"] == "heatmap"
    assert many[0]["data"][0]["z"] == [[n, n + 1] for n in range(13)]
    matrix = plots.entries(recorded(train__hits=[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]), "hits", "ab")
    assert matrix[0]["data"][0]["z"] == [[5, 6], [7, 8]] and matrix[0]["data"][0]["x"] == ["a", "b"]
    for odd in ([[]], [[[[1]]]], ["x"], [None]):
        assert plots.entries(recorded(train__odd=odd), "odd") == []


def test_predictions_and_their_errors_are_those_of_the_arrays():
    targets, predicted = np.array([1.0, 2.0, 4.0]), np.array([1.5, 2.0, 3.0])
    section = pictures.sections(
        {"regression_names": np.array(["y"]), "regression_targets": targets[:, None],
         "regression_predictions": predicted[:, None]}
    )[0]  # fmt: skip
    points, diagonal = section.plots[0]["data"]
    assert points["x"] == [1, 2, 4] and points["y"] == [1.5, 2, 3]
    assert diagonal["x"] == diagonal["y"] == [1, 4]
    bars = section.plots[1]["data"][0]
    errors = [x for x, count in zip(bars["x"], bars["y"], strict=True) for _ in range(count)]
    np.testing.assert_allclose(errors, sorted(predicted - targets), atol=bars["width"])


def test_of_many_labels_the_most_frequent_have_curves():
    arrays = multilabel(30)
    bars, curves = pictures.sections(arrays)
    assert len(bars.plots[0]["data"][0]["y"]) == 30
    assert [trace["name"][:8] for trace in curves.plots[0]["data"]] == [
        f"label {n}&"[:8] for n in range(12)
    ]
    assert curves.note == "The 12 most frequent of 30 labels."


def test_of_many_classes_the_most_frequent_mistakes_are_told(tmp_path):
    folder = run_folder(tmp_path / "run")
    classes = np.arange(6000)
    np.savez(
        folder / "evaluation.npz",
        confused=np.array([[4321, 17, 9], [5, 1234, 2]]),
        class_names=np.array([f"class{number}" for number in classes]),
        class_examples=np.where(classes == 99, 0, 3),
        class_hits=np.where(classes % 1000 == 7, 1, 3),
    )
    html = written(tmp_path, folder)
    assert "class4321" in html and "class1234" in html and "Confusion matrix" not in html
    assert "The lowest 20 of 6,000 classes" in html and "33.33%" in html
    assert len(html) < len(plotly_script()) + 200_000


def test_nothing_is_loaded_and_nothing_foreign_runs(tmp_path):
    metrics = {EVIL: lambda t: 1 / t, "array" + EVIL: lambda t: [1 / t]}
    html = written(tmp_path, run_folder(tmp_path / "run", metrics=metrics, **{"data.name": EVIL}))
    ours = html.replace(plotly_script(), "")
    assert EVIL not in ours and "<img src=x" not in ours
    assert "\\u003cimg" not in ours and "\\u003cscript" not in ours  # Plotly takes it for markup
    assert ours.count("</script>") == 2
    for outside in ('src="http', 'href="http', "url("):
        assert outside not in ours


def test_a_run_that_is_still_going_and_one_that_has_not_begun(tmp_path):
    html = written(tmp_path, run_folder(tmp_path / "run", finished=False))
    assert "running, or killed" in html and html.count(FIGURE) == 5
    young = tmp_path / "young"
    young.mkdir()
    (young / "config.json").write_text("{}")
    assert "No metrics yet" in written(tmp_path, young)


def test_a_comparison_shows_what_differs(tmp_path):
    a = run_folder(tmp_path / "a")
    b = run_folder(tmp_path / "b", finished=False, **{"optimizer.learning_rate": 0.5})
    html = written(tmp_path, a, b)
    differing = html[html.index("What differs") : html.index("All keys")]
    assert "optimizer.learning_rate" in differing and "batch_size" not in differing
    assert "a validation" in html and "b train" in html


def test_damaged_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="not a run folder"):
        written(tmp_path, tmp_path / "none")
    for name in ("config.json", "summary.json", "evaluation.npz"):
        workdir = run_folder(tmp_path / name)
        (workdir / name).write_text("{")
        with pytest.raises(UserError, match=name):
            written(tmp_path, workdir)


def test_a_half_written_line_is_passed_over_and_removed_on_resume(tmp_path):
    workdir = run_folder(tmp_path / "run", finished=False)
    path = workdir / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 31, "spl')
    assert len(read_jsonl(path)) == 6
    written(tmp_path, workdir)
    MetricWriter(workdir, 20).__exit__()
    assert [record["step"] for record in read_jsonl(path)] == [10, 10, 20, 20]


@pytest.mark.parametrize("task", TASKS)
def test_a_browser_draws_every_figure(task, tmp_path):
    metrics, arrays = TASKS[task]
    html = written(tmp_path, run_folder(tmp_path / "run", metrics=metrics, arrays=arrays()))
    document = drawn(tmp_path / "report.html")
    assert document.count('class="plot-container plotly"') == html.count(FIGURE)
    assert "<title>run</title>" in document
    assert all(metric.replace("_", " ") in document for metric in metrics)
