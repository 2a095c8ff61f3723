"""The likely cause of a divergence: what was measured is named; else it is not known."""

import dataclasses

import jax
import numpy as np
import pytest

from research.config import default_config
from research.data.dataset import Arrays
from research.training import advance, cause, nonfinite, setup
from research.training.loop import Diverged

TRAINING, VALIDATION = (Diverged(f"the {of} loss is", 5, 4) for of in ("training", "validation"))


def small(**changes):
    config = default_config()
    config.data.name, config.data.toy_examples = "spirals", 120
    config.batch_size, config.duration, config.model.hidden = 16, "20 steps", (8, 8)
    config.model.normalization = "none"
    config.update_from_flattened_dict(changes)
    return setup.from_config(config)


@pytest.fixture(scope="module")
def run():
    return small()


@pytest.fixture(scope="module")
def state(run):
    return run.init()


def named(run, state, error=TRAINING, *, grown=1.0, losses=(0.69,), first=0.69, layer=""):
    """What is named for weights that have grown so much, and losses up to the step in question."""
    start = cause.Start(cause.size_of(state), first)
    before = state.replace(params=jax.tree.map(lambda leaf: grown * leaf, state.params))
    found = nonfinite.Place(5, layer, before, tuple(enumerate(losses)))
    line = cause.likely_cause(run, error, found, start, 0.1)
    assert "\n" not in line
    return line


def with_inputs(run, factor=1.0, **splits):
    """The same run, some of its examples changed: {'train': {number: value}}."""
    for name in ("train", "validation"):
        split = getattr(run, name)
        inputs = (factor * split.inputs).astype(np.float32)
        for number, value in splits.get(name, {}).items():
            inputs[number] = value
        run = dataclasses.replace(run, **{name: Arrays(inputs, split.labels)})
    return run


RATE = "config.optimizer.learning_rate = 0.1 is too high: "


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        ({"grown": 50.0}, RATE + "before that step weights were 50 times as large"),
        ({"grown": 1e25}, "weights were 1e+25 times as large as at the start"),
        ({"losses": (0.7, 0.5, 40.0)}, RATE + "the training loss had risen to 40, "),
        ({"layer": "Dense_0/kernel: its update"}, RATE + "the gradients of that step are finite"),
        ({"first": np.nan, "losses": ()}, "before any update the loss of the first batch was nan"),
        ({"first": 1e9}, "(config.model.initializer_scale = 1, config.model.activation = 'relu')"),
    ],
)
def test_what_was_seen_is_named(run, state, seen, words):
    assert words in named(run, state, **seen)


def test_a_sound_run_that_diverges_all_the_same_has_no_known_cause(run, state):
    """Nor is a small loss that doubles once a sign of anything."""
    for losses in ((0.69, 0.7, 0.68), (), (0.01, 0.01, 0.02)):
        line = named(run, state, losses=losses)
        assert line.startswith("not known (the training loss before it was ")
        assert "learning_rate" not in line and "weights were 1 times as large" in line


def test_large_inputs_are_named_not_the_rate(run, state):
    raw = small(**{"preprocessing.name": "none"})
    large, unscaled = with_inputs(raw, 1e4), raw.init()
    (warning,) = large.warnings()  # at the start already, of searches too
    assert warning.startswith("inputs have a root mean square of ") and raw.warnings() == []
    line = named(large, unscaled, grown=1e6, losses=(0.7, 1e9))
    assert line.startswith("inputs are too large, up to ") and "learning_rate" not in line
    assert "(usual: 1) after config.preprocessing.name = 'none'" in line
    # Not where preprocessing, or a normaliser, takes their scale from them.
    assert named(run, state, grown=50.0).startswith(RATE)
    normalised = with_inputs(small(**{"preprocessing.name": "none", "model.normalization":
                                      "layer_norm"}), 1e4)  # fmt: skip
    assert named(normalised, normalised.init(), grown=50.0).startswith(RATE)


def test_one_wild_example_is_counted(run, state):
    rows = nonfinite.rows_of_step(run, state)
    line = named(with_inputs(run, train={rows[3]: np.inf}), state, grown=50.0)
    assert line.startswith("1 of 16 inputs of that step are not finite after config.preproc")
    line = named(with_inputs(run, train={rows[3]: 1e30}), state)
    assert line.startswith("inputs are too large, up to ") and "e+30" in line


def test_of_a_validation_loss_the_validation_split_is_looked_at(run, state):
    line = named(with_inputs(run, validation={2: np.nan}), state, VALIDATION)
    assert line.startswith(f"1 of {len(run.validation)} validation inputs are not finite")
    line = named(with_inputs(run, validation={2: 1e30}), state, VALIDATION)
    assert line.startswith("validation inputs reach ") and "those of train" in line
    assert named(run, state, VALIDATION, grown=50.0).startswith(RATE)
    assert "training loss" not in named(run, state, VALIDATION, losses=(np.nan,))
    line = named(run, state, VALIDATION)
    assert line.startswith("not known (the training loss before it was 0.69; validation inputs")
    assert "learning_rate" not in line


def test_running_statistics_that_lag_are_named():
    run = small(**{"model.normalization": "batch_norm"})
    state = run.init()
    assert named(run, state, VALIDATION).startswith("not known")
    lagging = jax.tree.map(lambda leaf: leaf * 1e-30, state.batch_stats)
    line = named(run, state.replace(batch_stats=lagging), VALIDATION)
    assert line.startswith("running statistics of batch norm that do not fit the weights: ")
    assert "config.model.batch_norm_decay = 0.9" in line


def test_weights_that_decay_past_zero_are_named():
    run = small(**{"loss.l2": 50.0})
    assert "config.loss.l2 times config.optimizer.learning_rate is 5: " in named(
        run, run.init(), grown=50.0
    )
    run = small(**{"loss.l2": 5.0})  # whose penalty makes the first loss large
    assert named(run, run.init(), first=100.0, losses=(100.0,)).startswith("not known")


def test_a_learning_rate_that_is_too_high_is_found_out_by_a_real_run():
    run = small(**{"optimizer.name": "sgd", "optimizer.learning_rate": 1e9,
                   "schedule.name": "constant"})  # fmt: skip
    program = advance.over_arrays(run, run.init())
    state, metrics = program(run.init(), 15)
    assert not np.isfinite(metrics.loss)
    error = Diverged("the training loss is", int(metrics.first_nonfinite_step), 0)
    found = nonfinite.find(run, error, run.init(), program, lambda: False)
    assert found.step == error.step and len(found.losses) == found.step - 1
    start = cause.Start(cause.size_of(run.init()), found.losses[0][1])
    assert "config.optimizer.learning_rate = 1e+09 is too high" in cause.likely_cause(
        run, error, found, start, 1e9
    )


def test_an_update_is_told_from_a_gradient():
    run = small(**{"optimizer.name": "sgd", "optimizer.learning_rate": 3e38,
                   "schedule.name": "constant", "model.initializer_scale": 30.0})  # fmt: skip
    assert nonfinite._of_step(run, run.init()).endswith(nonfinite.UPDATE)
