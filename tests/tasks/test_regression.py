"""Regression: metrics and figures against scikit-learn, in the unit of the user's targets."""

import dataclasses

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st
from sklearn import metrics as sklearn
from tasks.parts import close, evaluator, task_of

import research
from research.config import default_config
from research.data.sources import Arrays, Dataset
from research.errors import UserError
from research.training import advance, evaluation, setup
from research.training.scores import scored_in_parts

NAMES = ("height", "weight", "age")
TASK = task_of("regression", NAMES)
EVALUATE = evaluator(TASK)
SCALES, CENTERS = np.array([0.01, 1.0, 300.0]), np.array([5.0, 0.0, -1000.0])


def drawn(random, examples):
    """Return labels of three units, statistics of others like them, and standardised outputs."""

    def labels(count):
        return (CENTERS + SCALES * random.normal(size=(count, 3))).astype(np.float32)

    outputs = random.normal(size=(examples, 3)).astype(np.float32)
    return labels(examples), TASK.statistics(labels(50)), outputs


def wanted(labels, predicted):
    """Return scikit-learn's figures, in float64."""
    labels, predicted = np.float64(labels), np.float64(predicted)
    return {
        "rmse": np.sqrt(sklearn.mean_squared_error(labels, predicted)),
        "mae": sklearn.mean_absolute_error(labels, predicted),
        "r2": sklearn.r2_score(labels, predicted),
    }


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(2, 60))
def test_metrics_of_parts_are_scikit_learn_s_of_the_whole(seed, examples):
    random = np.random.default_rng(seed)
    labels, statistics, outputs = drawn(random, examples)
    standardised = (labels - statistics["mean"]) / np.float64(statistics["deviation"])
    hypothesis.assume(standardised.std(0).min() > 0.1)  # of R2's digits in float32
    found = EVALUATE(outputs, labels, statistics, random)
    predicted = outputs * np.float64(statistics["deviation"]) + statistics["mean"]
    close(found, wanted(labels, predicted), 1e-4)  # of sums in float32
    loss = {"loss": np.square(outputs - standardised).mean()}
    close(found, loss, 1e-4)


@hypothesis.settings(max_examples=40)
@hypothesis.given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 3))
def test_figures_are_scikit_learn_s(seed, examples, networks):
    random = np.random.default_rng(seed)
    labels, statistics, _ = drawn(random, examples)
    outputs = (labels + SCALES * random.normal(size=(networks, *labels.shape))).astype(np.float32)
    predicted, cut = outputs.astype(np.float64).mean(0), int(random.integers(0, examples))
    parts = [(outputs[:, rows], labels[rows]) for rows in (slice(cut), slice(cut, None))]
    _, scores = scored_in_parts(TASK, parts[cut == 0 :], statistics)
    close(TASK.figures(scores), wanted(labels, predicted), 1e-9)
    each = sklearn.root_mean_squared_error(np.float64(labels), predicted, multioutput="raw_values")
    assert TASK.beside(scores)["rmse_of"] == pytest.approx(dict(zip(NAMES, each, strict=True)))
    errors = (predicted - labels) / statistics["deviation"]
    close(TASK.figures(scores), {"loss": np.square(errors).mean()}, 1e-4)


def test_a_target_that_is_constant_has_no_r2_and_a_deviation_of_1():
    labels = np.full((10, 3), [1.0, 0.0, 0.1], np.float32)
    labels[:, 0] += np.arange(10)
    statistics = TASK.statistics(labels)
    assert statistics["deviation"][1:].tolist() == [1, 1]
    outputs = np.zeros((1, 10, 3), np.float32)
    assert np.isnan(TASK.figures(TASK.score(outputs, labels, statistics))["r2"])
    assert np.isnan(EVALUATE(outputs[0], labels, statistics, np.random.default_rng(0))["r2"])


def test_targets_and_predictions_go_back_and_forth():
    random = np.random.default_rng(0)
    labels, statistics, _ = drawn(random, 200)
    targets = np.asarray(TASK.targets(labels, statistics))
    np.testing.assert_allclose(TASK.natural(targets, statistics), labels, rtol=1e-5, atol=1e-5)
    own = TASK.targets(labels, TASK.statistics(labels))
    np.testing.assert_allclose(own.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(own.std(0), 1, rtol=1e-4)


def linear_run(seed: int = 0, **changes) -> setup.Setup:
    """Return the set-up of a linear regression of two targets, built by hand.

    Targets of test and of validation lie elsewhere, so that statistics of theirs would differ.
    """
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(600, 4)).astype(np.float32)
    inputs[400:] += 1
    kernel = np.array([[200.0, 0.02], [-100, 0.01], [50, 0], [0, -0.03]])
    labels = (inputs @ kernel + [7000, 1]).astype(np.float32)
    parts = [Arrays(inputs[rows], labels[rows]) for rows in (slice(500), slice(500, None))]
    config = default_config()
    config.task.name = "regression"
    config.model.hidden, config.batch_size, config.duration = (), 50, "60 epochs"
    config.optimizer.learning_rate, config.model.normalization = 0.02, "none"
    config.update_from_flattened_dict(changes)
    dataset = Dataset("line", *parts, ("price", "length"))
    return setup.from_split(config, dataset, np.arange(400), np.arange(400, 500))


def test_statistics_are_of_train_alone_and_predictions_in_the_own_unit():
    """A linear target is found, and its figures are in its unit."""
    run = linear_run()
    labels = run.train.labels.astype(np.float64)
    assert len(labels) == 400
    found = run.statistics["targets"]
    np.testing.assert_allclose(found["mean"], labels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(found["deviation"], labels.std(0), rtol=1e-6)
    state = run.init()
    for name in found:  # and the checkpoint has them
        np.testing.assert_array_equal(state.preprocessing["targets"][name], found[name])
    state, metrics = advance.over_arrays(run, state)(state, run.plan().total_steps)
    assert float(metrics.sums.means["loss"][1]) == 60 * 400
    outputs, labels = evaluation.predict_each(run.config, run.task, state, run.test)
    assert outputs.shape == (1, 100, 2) and np.array_equal(labels, run.test.labels)
    figures = evaluation.evaluate(run.config, run.task, state, run.test)
    close(figures, wanted(labels, outputs[0]), 1e-3)
    assert figures["r2"] > 0.999 and figures.pop("examples") == 100
    close(run.task.figures(run.task.score(outputs, labels, found)), figures, 1e-3)


def test_statistics_do_not_see_other_rows():
    """Other targets outside of train change nothing."""
    run = linear_run()
    inputs, labels = run.train.inputs, run.train.labels
    rest = run.validation
    whole = Arrays(np.r_[inputs, rest.inputs], np.r_[labels, 1e6 + rest.labels])
    dataset = Dataset("line", whole, dataclasses.replace(run.test), ("price", "length"))
    other = setup.from_split(run.config, dataset, np.arange(400), np.arange(400, 500))
    jax.tree.map(
        np.testing.assert_array_equal, other.statistics["targets"], run.statistics["targets"]
    )


@pytest.mark.parametrize(
    ("loss", "numbers", "figure"),
    [
        ("mean_absolute_error", {}, 0.5),
        ("quantile", {"loss.quantile": 0.8}, 0.8),
    ],
)
def test_a_loss_fits_the_share_that_it_is_for(loss, numbers, figure):
    """A net without inputs learns the median or the quantile of its targets, in their unit."""
    random = np.random.default_rng(0)
    labels = (1000 + 100 * random.exponential(size=(800, 1))).astype(np.float32)
    split = Arrays(np.zeros((800, 1), np.float32), labels)
    changes = {"loss.name": loss, "optimizer.learning_rate": 0.01, **numbers}
    config = linear_run(**changes).config
    config.batch_size, config.duration = 400, "600 steps"
    dataset = Dataset("noise", split, split, ("price",))
    run = setup.from_split(config, dataset, np.arange(800), np.arange(0))
    state, _ = advance.over_arrays(run, run.init())(run.init(), 600)
    outputs, _ = evaluation.predict_each(config, run.task, state, run.test)
    assert (labels < outputs[0]).mean() == pytest.approx(figure, abs=0.03)


def test_at_most_2000_rows_are_drawn():
    labels = np.arange(9000, dtype=np.float32).reshape(3000, 3)
    scores = TASK.score(labels[None] + 1, labels, TASK.statistics(labels))
    found = TASK.pictures(scores, None, None)
    assert found["regression_targets"].shape == found["regression_predictions"].shape == (2000, 3)
    np.testing.assert_array_equal(found["regression_predictions"], found["regression_targets"] + 1)
    assert found["regression_names"].tolist() == list(NAMES)
    assert found["regression_targets"][[0, -1]].tolist() == labels[[0, -1]].tolist()


def test_label_smoothing_is_refused():
    with pytest.raises(UserError, match="label_smoothing = 0.1 is for classes"):
        task_of("regression", NAMES, **{"loss.label_smoothing": 0.1})


def test_members_are_averaged():
    outputs = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5, 3)))
    np.testing.assert_allclose(TASK.average(outputs), outputs.mean(0), rtol=1e-6)


def test_targets_far_from_0_lose_no_digits(tmp_path):
    """Such as Unix seconds: near 1.7e9 float32 holds only multiples of 128."""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(600, 4)).astype(np.float32)
    targets = 10 * inputs[:, 0] + 0.1 * random.normal(size=600)
    config = research.default_config()
    config.task.name, config.duration = "regression", "300 steps"
    near, far = (
        research.fit(config, data=(inputs, targets + shift), workdir=tmp_path / str(shift))
        for shift in (0.0, 1.7e9)
    )
    for name in ("rmse", "mae", "r2", "loss"):
        assert far.summary[f"test_{name}"] == pytest.approx(near.summary[f"test_{name}"], rel=0.02)
    loaded = research.load(far.workdir)
    for trained in (far, loaded):
        found = trained.predict(inputs[:50]) - 1.7e9
        np.testing.assert_allclose(found, near.predict(inputs[:50]), atol=0.2)
    figures = loaded.evaluate(inputs, targets + 1.7e9)
    assert figures["r2"] == pytest.approx(near.evaluate(inputs, targets)["r2"], abs=1e-3)
    with pytest.raises(research.UserError, match="targets are so far from 0"):
        far.export(tmp_path / "export")
