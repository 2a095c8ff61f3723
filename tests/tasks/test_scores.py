"""Figures of predictions against scikit-learn's, in parts and whole, of few and of many classes."""

import numpy as np
import pytest
from sklearn import metrics

from research import tasks
from research.config import default_config
from research.data.dataset import Arrays
from research.tasks import classification
from research.training import evaluation, scores, setup

TASK = tasks.build(default_config(), tuple("abcdefg"))


def drawn(networks=3, examples=500, classes=7, seed=0):
    random = np.random.default_rng(seed)
    # The last class never occurs, and the first is every other example.
    labels = random.integers(0, classes - 1, examples) * random.integers(0, 2, examples)
    logits = random.normal(0, 1, (networks, examples, classes)).astype(np.float32)
    logits[:, np.arange(examples), labels] += 1
    return logits, labels


def test_figures_are_those_of_scikit_learn():
    logits, labels = drawn()
    found = TASK.score(logits, labels, {})
    shares = np.exp(logits.astype(np.float64))
    shares = (shares / shares.sum(-1, keepdims=True)).mean(0)
    assert TASK.figures(found)["accuracy"] == metrics.accuracy_score(labels, shares.argmax(1))
    wanted = metrics.log_loss(labels, shares, labels=np.arange(7))
    assert TASK.figures(found)["loss"] == pytest.approx(wanted, rel=1e-9)
    balance = TASK.beside(found)
    with pytest.warns(UserWarning, match="not in y_true"):
        wanted = metrics.balanced_accuracy_score(labels, shares.argmax(1))
    assert balance["balanced_accuracy"] == pytest.approx(wanted)
    assert balance["majority_share"] == (labels == 0).mean()
    wanted = metrics.confusion_matrix(labels, shares.argmax(1), labels=np.arange(7))
    assert np.array_equal(classification.confusion(found, 7), wanted)


@pytest.mark.parametrize("size", [1, 7, 499, 500])
def test_parts_add_up_to_the_whole(size):
    logits, labels = drawn()
    parts = [
        (logits[:, start : start + size], labels[start : start + size])
        for start in range(0, len(labels), size)
    ]
    each, together = scores.scored_in_parts(TASK, parts, {})
    for found, wanted in zip((*each, together), (*logits[:, None], logits), strict=True):
        wanted = TASK.figures(TASK.score(wanted, labels, {}))
        assert TASK.figures(found) == pytest.approx(wanted, rel=1e-12)


def test_the_most_confused_are_the_largest_off_the_diagonal():
    task = tasks.build(default_config(), tuple(map(str, range(40))))
    found = task.score(*drawn(classes=40, examples=5000), {})
    matrix = classification.confusion(found, 40)
    np.fill_diagonal(matrix, 0)
    pairs = classification.most_confused(found, 25)
    assert pairs[:, 2].tolist() == np.sort(matrix, axis=None)[::-1][:25].tolist()
    assert (matrix[pairs[:, 0], pairs[:, 1]] == pairs[:, 2]).all()


def test_predictions_in_parts_are_those_of_the_whole():
    config = default_config()
    config.data.name = "moons"
    config.compute.evaluation_batch_size = 16
    run = setup.from_config(config)
    state = run.init()
    whole, labels = evaluation.predict_each(run.config, run.task, state, run.test)
    parts = evaluation.predicted(run.config, run.task, [state, state], run.test, 48)
    logits, found = zip(*parts, strict=True)
    assert len(logits) > 5 and np.array_equal(np.concatenate(found), labels)
    for one in np.concatenate(logits, axis=1):
        np.testing.assert_allclose(one, whole[0], rtol=1e-5, atol=1e-6)


def test_what_is_drawn_of_thousands_of_classes_is_small():
    """The matrix of 6,000 classes would be 288 MB; the parts of a split hold few logits."""
    config = default_config()
    task = tasks.build(config, tuple(map(str, range(6000))))
    labels = np.arange(12_000) % 6000
    found = {
        "labels": labels,
        "predicted": (labels + 1) % 6000,
        "confidence": np.full(12_000, 0.5),
        "log_loss": np.ones(12_000),
        "rank": np.ones(12_000, int),
    }
    split = Arrays(np.zeros((12_000, 2), np.float32), labels)
    pictures = task.pictures(found, split, lambda rows: split.load(rows).inputs)
    assert sum(array.nbytes for array in pictures.values()) < 500_000
    assert pictures["confused"].shape == (30, 3) and (pictures["confused"][:, 2] == 2).all()
    size = evaluation.part_size(config, split, task, 1)
    assert size == config.compute.evaluation_batch_size
