"""Next-token prediction: losses of tokens, padding, parts of unequal numbers of tokens."""

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from tasks.parts import close, evaluator, task_of

from research import models
from research.config import default_config
from research.data.sources import Arrays, Dataset
from research.errors import UserError
from research.training import evaluation, setup
from research.training.metrics import Sums, of_batch
from research.training.scores import scored_in_parts
from research.training.step import make_train_step

TOKENS, LENGTH = 5, 6
TASK = task_of("next_token", "abcde")
EVALUATE = evaluator(TASK)


def drawn(random, examples):
    """Return logits and labels (N, T); some examples are nothing but padding."""
    labels = random.integers(0, TOKENS - 1, (examples, LENGTH)).astype(np.int32)
    lengths = random.integers(0, LENGTH + 1, examples)
    lengths[random.integers(0, examples)] = LENGTH
    labels[np.arange(LENGTH) >= lengths[:, None]] = -1
    return random.normal(0, 2, (examples, LENGTH, TOKENS)).astype(np.float32), labels


def wanted(labels, shares):
    """Return the figures of all tokens but padding, by scikit-learn."""
    there = labels >= 0
    loss = sklearn.log_loss(labels[there], shares[there], labels=np.arange(TOKENS))
    return {
        "loss": loss,
        "bits_per_character": loss / np.log(2),
        "perplexity": np.exp(loss),
        "accuracy": sklearn.accuracy_score(labels[there], shares[there].argmax(-1)),
    }


def softmax(outputs):
    shares = np.exp(outputs.astype(np.float64))
    return shares / shares.sum(-1, keepdims=True)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_metrics_of_parts_are_scikit_learn_s_of_the_whole(seed, examples):
    random = np.random.default_rng(seed)
    outputs, labels = drawn(random, examples)
    found = EVALUATE(outputs, labels, {}, random)
    close(found, wanted(labels, softmax(outputs)), 5e-6)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 3))
def test_figures_are_scikit_learn_s(seed, examples, networks):
    random = np.random.default_rng(seed)
    outputs, labels = drawn(random, examples)
    outputs = outputs + random.normal(0, 1, (networks, *outputs.shape)).astype(np.float32)
    cut = int(random.integers(0, examples))
    parts = [(outputs[:, rows], labels[rows]) for rows in (slice(cut), slice(cut, None))]
    _, scores = scored_in_parts(TASK, parts[cut == 0 :], {})
    shares = softmax(outputs).mean(0)
    close(TASK.figures(scores), wanted(labels, shares), 1e-9)
    found = TASK.pictures(scores, None, None)
    for place, bits in enumerate(found["position_loss"]):
        there = labels[:, place] >= 0
        of_label = shares[there, place][np.arange(there.sum()), labels[there, place]]
        assert bits == pytest.approx(-np.log2(of_label).mean(), rel=1e-9)
    assert found["token_names"].tolist() == list("abcde")


def test_smoothing_is_of_training_alone():
    """(1 - s) times the log loss plus s times the mean of -log p over the tokens."""
    task = task_of("next_token", "abcde", **{"loss.label_smoothing": 0.2})
    outputs, labels = drawn(np.random.default_rng(0), 8)
    numbers, there = {"loss": {"label_smoothing": 0.2}}, labels >= 0
    logs = np.log(softmax(outputs))
    smoothed = 0.8 * np.eye(TOKENS)[np.maximum(labels, 0)] + 0.2 / TOKENS
    each = -(smoothed * logs).sum(-1)[there].mean()
    found = Sums(of_batch(task, outputs, jnp.asarray(labels), None, {}, numbers))
    assert float(found.loss) == pytest.approx(each, rel=1e-5)
    plain = Sums(of_batch(task, outputs, jnp.asarray(labels), None, {}))
    close({"loss": float(plain.loss)}, {"loss": wanted(labels, np.exp(logs))["loss"]}, 1e-5)


class Bigram(nn.Module):
    """Logits of the next token from this one."""

    tokens: int

    @nn.compact
    def __call__(self, x, train: bool = False):
        table = self.param("kernel", nn.initializers.normal(1.0), (self.tokens, self.tokens))
        return table[x]


@pytest.fixture
def bigrams(monkeypatch):
    """Return a function (changes) -> a run that learns which token follows which."""
    monkeypatch.setattr(models, "build", lambda config, numbers, outputs, *_: Bigram(outputs))

    def run_of(**changes):
        random = np.random.default_rng(0)
        _, labels = drawn(random, 64)
        labels[:8] = -1  # of a batch's parts some have no token at all
        inputs = random.integers(0, TOKENS, labels.shape).astype(np.int32)
        config = default_config()
        config.task.name, config.batch_size = "next_token", 32
        config.optimizer.name, config.optimizer.learning_rate = "momentum", 0.5
        config.update_from_flattened_dict(changes)
        split = Arrays(inputs, labels)
        dataset = Dataset("pairs", split, split, tuple("abcde"))
        return setup.from_split(config, dataset, np.arange(64), np.arange(0))

    return run_of


def test_one_step_by_hand(bigrams):
    """The gradient is the mean over tokens, not over examples; ids are not preprocessed."""
    run = bigrams(**{"optimizer.name": "sgd", "schedule.name": "constant"})
    assert run.statistics == {}
    state, batch = run.init(), {"inputs": run.train.inputs, "labels": run.train.labels}
    after, metrics = jax.jit(make_train_step(run.config, run.task))(state, batch)
    table = np.asarray(state.params["kernel"], np.float64)
    there = run.train.labels >= 0
    x, y = run.train.inputs[there], run.train.labels[there]
    p = softmax(table[x])
    gradient = np.zeros_like(table)
    np.add.at(gradient, x, (p - np.eye(TOKENS)[y]) / len(y))
    total, weight = metrics.sums.means["loss"]
    assert int(weight) == len(y) and int(metrics.examples) == 64
    assert float(total) == pytest.approx(-np.log(p[np.arange(len(y)), y]).sum(), rel=1e-5)
    np.testing.assert_allclose(after.params["kernel"], table - 0.5 * gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parts", [4, 32])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_parts_with_unequal_numbers_of_tokens_are_the_whole_batch(bigrams, parts, smoothing):
    """Some parts of 32 are one example of padding alone."""
    found = []
    for number in (1, parts):
        run = bigrams(**{"compute.microbatches": number, "loss.label_smoothing": smoothing})
        batches = {
            name: getattr(run.train, name).reshape(2, 32, LENGTH) for name in ("inputs", "labels")
        }
        step = make_train_step(run.config, run.task)
        found.append(jax.jit(lambda s, b, step=step: jax.lax.scan(step, s, b))(run.init(), batches))
    (whole, told), (cut, metrics) = found
    np.testing.assert_allclose(cut.params["kernel"], whole.params["kernel"], rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), metrics, told)
    counts = (run.train.labels >= 0).reshape(2, 32, LENGTH).sum((1, 2))
    assert metrics.sums.means["loss"][1].tolist() == counts.tolist()


def test_evaluation_counts_every_token_once(bigrams):
    run = bigrams(**{"compute.evaluation_batch_size": 7})
    state = run.init()
    outputs, labels = evaluation.predict_each(run.config, run.task, state, run.test)
    found = evaluation.evaluate(run.config, run.task, state, run.test)
    close(found, wanted(labels, softmax(outputs[0])) | {"examples": 64}, 1e-5)


def test_the_loss_of_guessing_is_that_of_equal_outputs():
    loss, tokens = TASK.loss(jnp.zeros((1, LENGTH, TOKENS)), jnp.zeros((1, LENGTH), int), {}, None)
    assert TASK.guessing_loss == pytest.approx(float(loss[0]) / int(tokens[0]))


def test_mixing_is_refused():
    with pytest.raises(UserError, match="'mixup': tokens cannot be mixed"):
        task_of("next_token", "abcde", **{"augmentation.mixing": "mixup"})
