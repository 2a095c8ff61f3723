"""Classification: metrics and figures against scikit-learn, weights of classes, refusals."""

import warnings

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from sklearn.utils.class_weight import compute_class_weight
from tasks.parts import close, evaluator, task_of

from research.errors import UserError
from research.tasks import classification, metric, metrics
from research.training.metrics import Sums, of_batch
from research.training.scores import scored_in_parts

CLASSES = 7
ALL = ("accuracy", "top5", "log_loss", "balanced_accuracy", "macro_f1", "recall", "precision")
TASK = task_of("classification", "abcdefg", metrics=ALL)
EVALUATE = evaluator(TASK)


def drawn(random, examples, ties):
    """Return outputs and labels; some classes never occur, others are never predicted."""
    there = random.permutation(CLASSES)[: random.integers(1, CLASSES + 1)]
    labels = random.choice(there, examples).astype(np.int32)
    outputs = random.normal(0, 2, (examples, CLASSES)).astype(np.float32)
    outputs[:, random.integers(0, CLASSES)] -= 20
    return (np.round(outputs) if ties else outputs), labels


def by_class(labels, predicted):
    """Return what scikit-learn says by class, and means over the classes that are there."""
    numbers, counts = np.arange(CLASSES), np.bincount(labels, minlength=CLASSES)
    recall = sklearn.recall_score(labels, predicted, labels=numbers, average=None, zero_division=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of predicted classes that do not occur
        balanced = sklearn.balanced_accuracy_score(labels, predicted)
    return {
        "accuracy": sklearn.accuracy_score(labels, predicted),
        "balanced_accuracy": balanced,
        "macro_f1": sklearn.f1_score(labels, predicted, average="macro"),
        "recall": np.where(counts > 0, recall, np.nan),
        "precision": sklearn.precision_score(
            labels, predicted, labels=numbers, average=None, zero_division=0
        ),
    }


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.booleans())
def test_metrics_of_parts_are_scikit_learn_s_of_the_whole(seed, examples, ties):
    random = np.random.default_rng(seed)
    outputs, labels = drawn(random, examples, ties)
    found = EVALUATE(outputs, labels, {}, random)
    wanted = by_class(labels, outputs.argmax(-1))
    close(found, wanted, 1e-6)
    shares = np.exp(outputs.astype(np.float64))
    shares /= shares.sum(-1, keepdims=True)
    log_loss = sklearn.log_loss(labels, shares, labels=np.arange(CLASSES))
    close(found, {"log_loss": log_loss, "loss": log_loss}, 2e-6)
    larger = (outputs > outputs[np.arange(examples), labels][:, None]).sum(-1)
    close(found, {"top5": (larger < 5).mean()}, 1e-6)
    if not ties:
        top5 = sklearn.top_k_accuracy_score(labels, outputs, k=5, labels=np.arange(CLASSES))
        close(found, {"top5": top5}, 1e-6)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 3))
def test_figures_are_scikit_learn_s(seed, examples, networks):
    random = np.random.default_rng(seed)
    outputs, labels = drawn(random, examples, ties=False)
    outputs = outputs + random.normal(0, 1, (networks, *outputs.shape)).astype(np.float32)
    shares = np.exp(outputs.astype(np.float64))
    shares = (shares / shares.sum(-1, keepdims=True)).mean(0)
    cut = int(random.integers(0, examples))
    parts = [(outputs[:, rows], labels[rows]) for rows in (slice(cut), slice(cut, None))]
    _, scores = scored_in_parts(TASK, parts[cut == 0 :], {})
    figures, beside = TASK.figures(scores), TASK.beside(scores)
    wanted, numbers = by_class(labels, shares.argmax(-1)), np.arange(CLASSES)
    wanted["loss"] = sklearn.log_loss(labels, shares, labels=numbers)
    wanted["top5"] = sklearn.top_k_accuracy_score(labels, shares, k=5, labels=numbers)
    close(figures | beside, {name: wanted[name] for name in wanted if np.ndim(wanted[name]) == 0},
          1e-9)  # fmt: skip
    for name in ("recall", "precision"):
        occurring = {letter: wanted[name]["abcdefg".index(letter)] for letter in beside[name]}
        assert beside[name] == pytest.approx(occurring, abs=1e-9)
        assert set(beside[name]) == {"abcdefg"[label] for label in labels}
    assert beside["majority_share"] == np.bincount(labels).max() / examples
    matrix = sklearn.confusion_matrix(labels, shares.argmax(-1), labels=numbers)
    assert np.array_equal(classification.confusion(scores, CLASSES), matrix)
    in_float32 = metric.of_confusion(matrix)
    close(in_float32, {name: wanted[name] for name in in_float32 if name in wanted}, 1e-9)


NUMBERS = {"loss": {"label_smoothing": 0.0}}


@pytest.mark.parametrize("weights", [(0.5, 2.0, 0.0, 1.0, 7.0, 3.0, 0.1), ("balanced",)])
def test_class_weights_are_sample_weights(weights):
    """The loss of training; evaluation has none. Balanced ones are scikit-learn's."""
    task = task_of("classification", "abcdefg", **{"loss.class_weights": weights})
    random = np.random.default_rng(0)
    outputs = random.normal(0, 2, (200, CLASSES)).astype(np.float32)
    labels = random.choice(CLASSES, 200, p=np.array([1, 2, 3, 4, 5, 6, 7]) / 28)
    statistics = task.statistics(labels)
    each = statistics["class_weights"]
    if weights == ("balanced",):
        wanted = compute_class_weight("balanced", classes=np.arange(CLASSES), y=labels)
        np.testing.assert_allclose(each, wanted, rtol=1e-6)
        assert each[labels].mean() == pytest.approx(1)
    shares = np.exp(outputs.astype(np.float64))
    shares /= shares.sum(-1, keepdims=True)
    targets = task.targets(jnp.asarray(labels), statistics)
    for numbers, of_samples in ((NUMBERS, each[labels]), (None, None)):
        means = of_batch(task, outputs, targets, None, {"targets": statistics}, numbers)
        wanted = sklearn.log_loss(labels, shares, sample_weight=of_samples)
        assert float(Sums(means).loss) == pytest.approx(wanted, rel=1e-6)
        assert means["accuracy"][1] == 200  # no weights in metrics


def test_balanced_weights_of_a_class_without_examples_are_finite():
    task = task_of("classification", "abc", **{"loss.class_weights": ("balanced",)})
    weights = task.statistics(np.array([0, 0, 0, 1]))["class_weights"]
    np.testing.assert_allclose(weights, [4 / 9, 4 / 3, 4 / 3])


def test_smoothed_targets_are_mixed_with_the_uniform_distribution():
    task = task_of("classification", "abcd", **{"loss.label_smoothing": 0.2})
    targets = task.targets(jnp.array([2]), {})
    found = task.training_targets(targets, {"loss": {"label_smoothing": 0.2}})
    np.testing.assert_allclose(found, [[0.05, 0.05, 0.85, 0.05]], rtol=1e-6)
    plain = task_of("classification", "abcd")
    assert plain.training_targets(targets, {"loss": {"label_smoothing": 0.2}}) is targets


@pytest.mark.parametrize("networks", [1, 3])
@pytest.mark.parametrize("loss", classification.Classification.losses)
def test_validation_and_test_agree_whatever_the_loss(loss, networks):
    """The loss, and the log loss of the probabilities that are reported; of ensembles too."""
    task = task_of("classification", "abcdefg", metrics=("log_loss",), **{"loss.name": loss})
    random = np.random.default_rng(1)
    labels = random.integers(0, CLASSES, 50).astype(np.int32)
    outputs = random.normal(0, 2, (networks, 50, CLASSES)).astype(np.float32)
    together = np.asarray(task.average(jnp.asarray(outputs)))
    found = evaluator(task)(together, labels, {}, random)
    figures = task.figures(task.score(outputs, labels, {}))
    figures = {"log_loss": figures["loss"]} | figures  # where it is the loss
    close(found, {name: figures[name] for name in ("loss", "log_loss", "accuracy")}, 1e-5)
    probabilities = task.predictions(outputs)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-12)
    wanted = sklearn.log_loss(labels, probabilities, labels=np.arange(CLASSES))
    assert found["log_loss"] == pytest.approx(wanted, rel=1e-5)


def test_one_against_all_has_the_logistic_functions_as_probabilities():
    task = task_of("classification", "abc", **{"loss.name": "binary_cross_entropy"})
    outputs = np.array([[[2.0, -1.0, 0.5]]], np.float32)
    yes = 1 / (1 + np.exp(-outputs[0].astype(np.float64)))
    np.testing.assert_allclose(task.predictions(outputs), yes / yes.sum(), rtol=1e-9)


@pytest.mark.parametrize("loss", classification.Classification.losses)
def test_the_loss_of_guessing_is_that_of_equal_outputs(loss):
    task = task_of("classification", "abcdefg", **{"loss.name": loss})
    outputs, labels = np.zeros((5, CLASSES), np.float32), np.arange(5)
    targets = task.targets(jnp.asarray(labels), {})
    wanted = Sums(of_batch(task, outputs, targets, None, {})).loss
    assert task.guessing_loss == pytest.approx(float(wanted), rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"loss.class_weights": (1.0, 2.0)}, "('balanced',), or 3 numbers"),
        ({"loss.class_weights": (1.0, 2.0, -1.0)}, "of at least 0"),
        ({"loss.class_weights": (1.0, 2.0, float("nan"))}, "of at least 0"),
        ({"loss.class_weights": ("balance",)}, "('balanced',), or 3 numbers"),
        ({"loss.name": "hubre"}, "config.loss.name = 'hubre' is unknown"),
        ({"loss.name": "huber"}, "(allowed: binary_cross_entropy, focal, hinge"),
        ({"metrics": ("macro_f2",)}, "did you mean 'macro_f1'?"),
        ({"metrics": ("rmse",)}, "config.metrics = 'rmse' is unknown"),
        ({"task.name": "clasification"}, "did you mean 'classification'?"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(changes, words):
    with pytest.raises(UserError) as error:
        task_of("classification", "abc", **changes)
    assert words in str(error.value) and "\n" not in str(error.value)


def test_sums_of_confusion_stay_exact_beyond_float32():
    counts = np.array([[2**25 + 1, 1], [0, 1]])
    found = metric.of_confusion(counts)
    assert found["recall"][0] == (2**25 + 1) / (2**25 + 2)
    outputs, targets = jnp.zeros((4, 2)), jnp.eye(2)[jnp.zeros(4, int)]
    total, weight = metrics.balanced_accuracy(outputs, targets, jnp.array([True] * 3 + [False]))
    assert total.dtype == weight.dtype == jnp.int32 and total.tolist() == [[3, 0], [0, 0]]


def test_the_mean_of_nothing_is_no_number():
    empty = Sums({"loss": (0.0, 0), "accuracy": (0, 0), "macro_f1": (np.zeros((2, 2)), 0)})
    task = task_of("classification", "ab", metrics=("macro_f1",))
    from research.training.metrics import values

    assert all(np.isnan(value) for value in values(task, empty).values())


def test_averaged_outputs_are_logs_of_mean_probabilities():
    outputs = np.random.default_rng(0).normal(0, 3, (3, 20, CLASSES)).astype(np.float32)
    found = jax.nn.softmax(TASK.average(jnp.asarray(outputs)))
    np.testing.assert_allclose(found, TASK.predictions(outputs), rtol=1e-5)
