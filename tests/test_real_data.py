"""The accuracies that the configs promise, on the real data: pytest -m slow (half an hour)."""

import json

import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("config", "changes", "epochs", "accuracy"),
    [
        ("mnist_mlp", [], 10, 0.984),
        ("mnist_cnn", [], 6, 0.992),
        # A short run: the schedule is squeezed into two epochs.
        ("cifar10_resnet20", ["--config.duration=2 epochs"], 2, 0.5),
        ("cifar10_cnn", ["--config.duration=2 epochs"], 2, 0.6),
    ],
)
def test_accuracy(config, changes, epochs, accuracy, real_data, command, tmp_path):
    result = command("main", f"--config=configs/{config}.py", f"--workdir={tmp_path}", *changes,
                     f"--config.data.data_dir={real_data}", timeout=1800)  # fmt: skip
    assert result.returncode == 0, result.stderr
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["epochs"] == pytest.approx(epochs, abs=0.01)
    assert summary["test_accuracy"] >= accuracy
    records = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    losses = [record["loss"] for record in records if record["split"] == "train"]
    assert losses[-1] < losses[0]
