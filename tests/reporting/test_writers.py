"""Metrics in files that cannot grow."""

import os
import resource
import subprocess
import sys

import pytest

from research.reporting.writers import MetricWriter, read_jsonl

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
from research.reporting.writers import MetricWriter
with MetricWriter(sys.argv[1], 0) as writer:
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
