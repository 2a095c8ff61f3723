"""Metrics in files that cannot grow; the other writers, and what happens when one fails."""

import os
import resource
import subprocess
import sys

import pytest

from research.config import default_config
from research.errors import UserError
from research.json_files import read_jsonl
from research.reporting import writers
from research.reporting.records import MetricWriter, named_writers

RECORDS = [{"step": step, "split": "train", "loss": 1 / step} for step in range(1, 4)]


@pytest.fixture
def limit():
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size=soft: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("into", [0, 7])  # the limit lies at the end of a line, or inside the next
def test_a_record_is_whole_or_not_there_and_the_reason_is_the_systems(into, limit, tmp_path):
    with MetricWriter(tmp_path, 0) as writer:
        writer.write(RECORDS[0])
        limit((tmp_path / "metrics.jsonl").stat().st_size + into)
        with pytest.raises(OSError, match="File too large"):
            writer.write(RECORDS[1])
        limit()
        assert read_jsonl(tmp_path / "metrics.jsonl") == RECORDS[:1]
        writer.write(RECORDS[2])
    assert read_jsonl(tmp_path / "metrics.jsonl") == RECORDS


def test_pytorch_is_not_imported_for_event_files(tmp_path):
    """tensorboardX would, and it takes seconds; whoever asks for it later gets it."""
    (tmp_path / "torch.py").write_text("print('imported')")
    program = """
import sys
from research.reporting.records import MetricWriter, named_writers
from research.config import default_config
config = default_config()
with MetricWriter(sys.argv[1], 0, config, named_writers(config)) as writer:
    writer.write({"step": 1, "split": "train", "loss": 0.5})
print("written")
import torch
"""
    path = os.pathsep.join((str(tmp_path), os.environ["PYTHONPATH"]))
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path],
        env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["written", "imported"], done.stderr


def test_what_could_not_be_written_is_tried_again_at_the_end(tmp_path):
    """There may be room again, and no record after it."""
    with MetricWriter(tmp_path, 0) as writer:
        real = os.dup(writer._file)
        full = os.open("/dev/full", os.O_WRONLY)
        os.dup2(full, writer._file)
        with pytest.raises(OSError):
            writer.write({"step": 1, "split": "train", "loss": 1.0})
        os.dup2(real, writer._file)
    os.close(real), os.close(full)
    assert [record["step"] for record in read_jsonl(tmp_path / "metrics.jsonl")] == [1]


RECORD = {"epoch": 1.0, "split": "train", "seconds": 1.0, "loss": 0.5, "recall": [0.25, 0.75],
          "confusion": [[1, 2], [3, 4]], "none": None, "bad": float("nan"), "long": [0.0] * 13,
          "members": {"loss": [0.25, 0.75]}}  # fmt: skip
TAGS = {"train/epoch": 1.0, "train/seconds": 1.0, "train/loss": 0.5, "train/recall/0": 0.25,
        "train/recall/1": 0.75, "train/members/loss_0": 0.25,
        "train/members/loss_1": 0.75}  # fmt: skip


def written(workdir, name, first, steps):
    config = default_config()
    config.logging.writers = (name,)
    config.optimizer.learning_rate = 0.25
    with MetricWriter(workdir, first, config, named_writers(config)) as writer:
        for step in steps:
            writer.write({"step": step, **RECORD})


def test_tensorboard_has_each_number_and_forgets_what_a_resumed_run_writes_again(tmp_path):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    written(tmp_path, "tensorboard", 0, (1, 2, 3))
    written(tmp_path, "tensorboard", 1, (2, 4))
    board = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    board.Reload()
    assert set(board.Tags()["scalars"]) == set(TAGS)
    for tag, value in TAGS.items():
        assert [(event.step, event.value) for event in board.Scalars(tag)] == [
            (step, value) for step in (1, 2, 4)
        ]
    assert (
        b"optimizer.learning_rate"
        in (board.PluginTagToContent("hparams")["_hparams_/session_start_info"])
    )


@pytest.mark.filterwarnings("default")  # of the package's own code
def test_mlflow_goes_on_with_the_same_run(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    written(tmp_path, "mlflow", 0, (1, 2))
    run_id = (tmp_path / "mlflow_run_id").read_text().strip()
    written(tmp_path, "mlflow", 2, (3,))
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED" and run.data.metrics == TAGS
    assert run.data.params["optimizer.learning_rate"] == "0.25"
    assert [m.step for m in client.get_metric_history(run_id, "train/loss")] == [1, 2, 3]
    assert len(client.search_runs([run.info.experiment_id])) == 1


@pytest.mark.filterwarnings("default")  # of the package's own code
def test_wandb_goes_on_with_the_same_run_offline(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs the extra wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    written(tmp_path, "wandb", 0, (1, 2))
    written(tmp_path, "wandb", 2, (3,))
    run_id = (tmp_path / "wandb" / "run_id").read_text().strip()
    stored = list((tmp_path / "wandb").glob(f"offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert stored and all(b"train/recall/1" in file.read_bytes() for file in stored)


@pytest.mark.parametrize("fails_at", ["start", "write", "close"])
def test_a_writer_that_fails_is_dropped_and_the_others_go_on(fails_at, tmp_path):
    calls, warned = [], []

    class Failing:
        def __init__(self, workdir, config, step):
            self.call("start")

        def call(self, name):
            calls.append(name)
            if name == fails_at:
                raise RuntimeError("no\nserver")

        def write(self, record):
            self.call("write")

        def close(self):
            self.call("close")

    class Good:
        def __init__(self, *_):
            self.records, self.closed = [], False

        def write(self, record):
            self.records.append(record)

        def close(self):
            self.closed = True

    good = Good()
    both = {"mine:Failing": Failing, "good": lambda *_: good}
    with MetricWriter(tmp_path, 0, default_config(), both, warned.append) as writer:
        for record in RECORDS:
            writer.write(record)
    assert warned == [
        "warning: config.logging.writers: 'mine:Failing' is dropped (RuntimeError: no server)"
    ]
    assert calls.count(fails_at) == 1
    assert good.records == RECORDS == read_jsonl(tmp_path / "metrics.jsonl") and good.closed


def test_unknown_writers_and_missing_packages_are_told(monkeypatch):
    config = default_config()
    config.logging.writers = ("tensorbord",)
    with pytest.raises(UserError, match="logging.writers = 'tensorbord' is unknown; did you mean "
                       r"'tensorboard'\? \(allowed: mlflow, tensorboard, wandb\)"):  # fmt: skip
        named_writers(config)
    monkeypatch.setattr(writers.wandb, "package", "no_such_package")
    config.logging.writers = ("tensorboard", "wandb")
    with pytest.raises(UserError, match=r"'wandb' needs .* 'onestep\[no_such_package"):
        named_writers(config)
