"""Texts as tokens: nothing is lost or seen twice, and the test split is the end of the text."""

import math

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from research.config import default_config
from research.data import sources, text
from research.data.dataset import UNKNOWN
from research.data.relabelling import relabelled
from research.errors import UserError
from research.training import setup


def load(path=None, whole=False, **values):
    config = default_config().data
    config.update({"name": "text", "path": path and str(path), **values})
    return sources.load(config, whole, kind="tokens")


def written(split, names) -> str:
    """The text of a split: its first token, and then all labels that are no padding."""
    tokens = [split.inputs[0, 0], *split.labels[split.labels >= 0]]
    return "".join(names[token] for token in tokens)


@hypothesis.given(st.lists(st.integers(0, 50), min_size=2, max_size=300), st.integers(2, 40))
def test_windows_hold_the_whole_text_once(tokens, context):
    inputs, labels = text.windows(np.array(tokens), context)
    assert inputs.shape == labels.shape == (math.ceil((len(tokens) - 1) / context), context)
    assert inputs.dtype == labels.dtype == np.int32
    real = labels >= 0
    assert inputs[real].tolist() == tokens[:-1] and labels[real].tolist() == tokens[1:]
    assert real.ravel()[: len(tokens) - 1].all()  # padding is at the end
    np.testing.assert_array_equal(inputs[:, 1:][real[:, 1:]], labels[:, :-1][real[:, 1:]])


@hypothesis.given(st.text(min_size=20, max_size=400), st.integers(2, 40))
@hypothesis.settings(max_examples=50, suppress_health_check=list(hypothesis.HealthCheck))
def test_splits_together_are_the_text(tmp_path, content, context):
    content = "a" + content[1:]  # a mark of the byte order is not read
    (tmp_path / "mine.txt").write_bytes(content.encode())
    dataset = load(tmp_path / "mine.txt", context=context)
    names = dataset.class_names
    train, test = (written(of, names) for of in (dataset.train, dataset.test))
    end = len(content) - round(len(content) / 10)
    assert train == content[:end] and len(train + test) == len(content)
    known = set(content[:end])
    assert test == "".join(x if x in known else UNKNOWN for x in content[end:])
    assert set(names) == known | {UNKNOWN} and names[-1] == UNKNOWN
    assert list(names[:-1]) == sorted(known - {UNKNOWN})
    new = sum(x not in known and x != UNKNOWN for x in content[end:])
    assert any(f" {new} of {len(test)} characters" in line for line in dataset.messages) == (
        new > 0
    )
    whole = load(tmp_path / "mine.txt", whole=True, context=context)
    assert list(whole.splits()) == ["test"] and written(whole.test, whole.class_names) == content
    assert written(relabelled(whole, names).test, names) == train + test


def test_python_ships_a_text():
    dataset = load()
    assert dataset.train.inputs.shape[1] == 128 and dataset.train.inputs.dtype == np.int32
    content = text.corpus()
    assert len(content) > 300_000 and len(dataset.class_names) < 300
    assert written(dataset.train, dataset.class_names) == content[: -round(len(content) / 10)]
    assert load().fingerprint() == dataset.fingerprint()
    np.testing.assert_array_equal(
        text.encode(content[:129], dataset.class_names)[:-1], dataset.train.inputs[0]
    )
    assert text.encode("\u2603", dataset.class_names).tolist() == [len(dataset.class_names) - 1]


def test_validation_lies_before_the_test_split():
    config = default_config()
    config.data.name, config.task.name = "text", "next_token"
    dataset = load()
    run = setup.from_config(config, dataset=dataset)
    parts = [written(of, run.class_names) for of in (run.train, run.validation, run.test)]
    joined = parts[0] + parts[1][1:] + parts[2]  # a window begins with the label of the last one
    assert joined == text.corpus()
    assert len(run.validation) == round(len(dataset.train) / 10)
    line, *_ = run.description()
    assert "vocabulary of" in line and "'\\n', ' '" in line and line.endswith("; 128 tokens")
    assert not run.warnings()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 characters is too short .allowed: at least 20"),
        (b"0123456789", "10 characters is too short"),
        (b"a" * 50 + b"\xff" + b"b" * 50, "is not UTF-8, at byte 50"),
        ("grün".encode("latin-1") * 10, "is not UTF-8, at byte 2"),
        (None, "no such file"),
    ],
)
def test_a_broken_text_is_named_in_a_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(UserError, match=message) as told:
        load(tmp_path / "mine.txt")
    assert "\n" not in str(told.value)
    with pytest.raises(UserError, match="no such file"):
        load(tmp_path)
