"""The report: what it shows, that nothing in it can run, and that a browser draws it."""

import json
from pathlib import Path

import numpy as np
import pytest
from browser import drawn

from research import config as configuration
from research.errors import UserError
from research.json_files import read_jsonl
from research.reporting import page
from research.reporting.document import plotly_script
from research.reporting.records import MetricWriter, append_history

EVIL = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"


def run_folder(workdir: Path, finished=True, **changes) -> Path:
    workdir.mkdir(parents=True)
    config = configuration.default_config()
    config.update_from_flattened_dict(changes)
    (workdir / "config.json").write_text(configuration.to_json(config))
    append_history(workdir, "start", 0)
    with MetricWriter(workdir, 0) as writer:
        for epoch in range(1, 4):
            for split in ("train", "validation"):
                record = {"step": 10 * epoch, "split": split, "loss": 1 / epoch, "epoch": epoch}
                record |= {"accuracy": 1 - 0.5**epoch, "seconds": epoch}
                if split == "train":
                    record |= {"learning_rate": 0.1 / epoch, "examples_per_second": 1e4}
                writer.write(record)
    if finished:
        append_history(workdir, "finish", 30)
        summary = {"test_accuracy": 0.875, "test_loss": 0.3, "steps": 30, "epochs": 3.0,
                   "wall_seconds": 3.0, "compile_seconds": 1.0, "examples_per_second": 1e4,
                   "parameter_count": 123, "parameters_sha256": "0"}  # fmt: skip
        (workdir / "summary.json").write_text(json.dumps(summary))
        random = np.random.default_rng(0)
        np.savez(
            workdir / "evaluation.npz",
            confusion=np.array([[7, 1], [2, 6]]),
            class_names=np.array([EVIL, "b"]),
            reliability_counts=np.array([0, 3, 13]),
            reliability_confidences=np.array([0.0, 0.6, 0.95]),
            reliability_accuracies=np.array([0.0, 0.5, 0.9]),
            mistake_images=random.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8),
            mistake_labels=np.array([0, 1, 1]),
            mistake_predictions=np.array([1, 0, 0]),
            mistake_confidences=np.array([0.9, 0.8, 0.7]),
            filters=random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        )
    return workdir


def written(tmp_path, *workdirs) -> str:
    page.write_report(workdirs, tmp_path / "report.html")
    return (tmp_path / "report.html").read_text()


def test_one_run(tmp_path):
    html = written(tmp_path, run_folder(tmp_path / "run"))
    for words in ("87.50%", "finished", "optimizer.learning_rate", "Confusion matrix",
                  "Reliability", "Most confident mistakes", "First-layer filters",
                  "Environment"):  # fmt: skip
        assert words in html
    assert html.count('<img alt="" src="data:image/png;base64,') == 3 + 4
    assert html.count("Plotly.newPlot('figure") == 6


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
    html = written(tmp_path, run_folder(tmp_path / "run", **{"data.name": EVIL}))
    ours = html.replace(plotly_script(), "")
    assert EVIL not in ours and "<img src=x" not in ours
    assert ours.count("</script>") == 2
    for outside in ('src="http', 'href="http', "url("):
        assert outside not in ours


def test_a_run_that_is_still_going_and_one_that_has_not_begun(tmp_path):
    html = written(tmp_path, run_folder(tmp_path / "run", finished=False))
    assert "running, or killed" in html and html.count("Plotly.newPlot('figure") == 4
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


def test_a_browser_draws_every_figure(tmp_path):
    written(tmp_path, run_folder(tmp_path / "run"))
    document = drawn(tmp_path / "report.html")
    assert document.count('class="plot-container plotly"') == 6
    assert "<title>run</title>" in document
    assert "loss (nats)" in document and "true class" in document
