"""Multi-label classification: metrics, figures and curves against scikit-learn."""

import hypothesis
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from tasks.parts import close, evaluator, task_of

from research.errors import UserError
from research.tasks.multilabel import average_precision
from research.training.scores import scored_in_parts

NAMES = "pqrst"
TASK = task_of("multilabel", NAMES)
EVALUATE = evaluator(TASK)


def drawn(random, examples, ties):
    """Return logits and labels; the last label never occurs, and one is never predicted."""
    labels = (random.random((examples, 5)) < [0.5, 0.2, 0.8, 0.4, 0]).astype(np.uint8)
    outputs = random.normal(labels * 2.0 - 1, 2).astype(np.float32)
    outputs[:, random.integers(0, 5)] -= 20
    return (np.round(outputs) if ties else outputs), labels


def losses(labels, shares):
    """Return the mean over examples of the log loss, summed over labels."""
    logs = np.where(labels > 0, np.log(shares), np.log1p(-shares))
    return -logs.sum(-1).mean()


def f1(labels, predicted):
    return {
        f"{average}_f1": sklearn.f1_score(labels, predicted, average=average, zero_division=0)
        for average in ("macro", "micro")
    }


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans())
def test_metrics_of_parts_are_scikit_learn_s_of_the_whole(seed, examples, ties):
    random = np.random.default_rng(seed)
    outputs, labels = drawn(random, examples, ties)
    found = EVALUATE(outputs, labels, {}, random)
    close(found, f1(labels, outputs > 0), 1e-6)
    shares = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    close(found, {"loss": losses(labels, shares)}, 1e-5)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 3), st.booleans())
def test_figures_are_scikit_learn_s(seed, examples, networks, ties):
    random = np.random.default_rng(seed)
    outputs, labels = drawn(random, examples, ties)
    outputs = np.stack([outputs, *(outputs - number for number in range(1, networks))])
    shares = (1 / (1 + np.exp(-outputs.astype(np.float64)))).mean(0)
    cut = int(random.integers(0, examples))
    parts = [(outputs[:, rows], labels[rows]) for rows in (slice(cut), slice(cut, None))]
    _, scores = scored_in_parts(TASK, parts[cut == 0 :], {})
    figures, beside = TASK.figures(scores), TASK.beside(scores)
    precisions = {
        name: sklearn.average_precision_score(labels[:, number], shares[:, number])
        for number, name in enumerate(NAMES)
        if labels[:, number].any()
    }
    mean = np.mean(list(precisions.values())) if precisions else np.nan
    close(figures, f1(labels, shares > 0.5) | {"mean_average_precision": mean}, 1e-9)
    close(figures, {"loss": losses(labels, shares)}, 1e-6)
    assert beside["average_precision"] == pytest.approx(precisions, abs=1e-9)


def test_certainty_has_a_finite_loss():
    """In float64 a logit of 40 has the probability 1: its logarithm is not that of the loss."""
    outputs = np.array([[[40.0, 800.0, -800.0, 0, 0]]], np.float32)
    labels = np.array([[0, 0, 1, 0, 0]], np.uint8)
    found = TASK.figures(TASK.score(outputs, labels, {}))["loss"]
    assert found == pytest.approx(40 + 800 + 800 + 2 * np.log(2), rel=1e-9)


def test_the_curve_is_the_best_precision_at_a_recall_of_at_least_that():
    random = np.random.default_rng(0)
    outputs, labels = drawn(random, 80, ties=True)
    found = TASK.pictures(TASK.score(outputs[None], labels, {}), None, None)
    shares = 1 / (1 + np.exp(-outputs.astype(np.float64)))
    for number in range(4):
        precision, recall, _ = sklearn.precision_recall_curve(labels[:, number], shares[:, number])
        wanted = [precision[:-1][recall[:-1] >= r - 1e-9].max() for r in found["label_recall"]]
        np.testing.assert_allclose(found["label_precision"][number], wanted, rtol=1e-9)
        area = average_precision(labels[:, number] > 0, shares[:, number])
        assert found["label_average_precision"][number] == pytest.approx(area)
    assert np.isnan(found["label_precision"][4]).all()
    assert found["label_counts"].tolist() == labels.sum(0).tolist()
    assert found["label_names"].tolist() == list(NAMES)


def test_members_are_averaged_by_probability():
    outputs = np.random.default_rng(0).normal(0, 3, (3, 20, 5)).astype(np.float32)
    logits = np.asarray(TASK.average(jnp.asarray(outputs)), np.float64)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), TASK.predictions(outputs), rtol=1e-5)


def test_smoothing_and_guessing():
    task = task_of("multilabel", NAMES, **{"loss.label_smoothing": 0.2})
    targets = task.targets(jnp.array([[0, 1, 1, 0, 0]], jnp.uint8), {})
    found = task.training_targets(targets, {"loss": {"label_smoothing": 0.2}})
    np.testing.assert_allclose(found, [[0.1, 0.9, 0.9, 0.1, 0.1]], rtol=1e-6)
    loss, weights = task.loss(jnp.zeros((1, 5)), targets, {}, None)
    assert weights is None and task.guessing_loss == pytest.approx(float(loss[0]))


def test_a_loss_of_distributions_is_refused():
    with pytest.raises(UserError, match="softmax_cross_entropy' is unknown"):
        task_of("multilabel", NAMES, **{"loss.name": "softmax_cross_entropy"})
