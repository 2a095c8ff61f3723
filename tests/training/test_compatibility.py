"""Everything composes: random choices of each kind, two steps, in a program and in lanes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from research.config import default_config, flatten
from research.data import augmentation, mixing, preprocessing
from research.data.feed import to_device
from research.models import (
    activations,
    data_dependent,
    initializers,
    normalization,
    pooling,
    regularization,
)
from research.names import public_functions, resolve
from research.optimizers import algorithms, averaging, schedules
from research.platform import QUICKLY
from research.training import checks, setup
from research.training import lanes as ways
from research.training.step import make_train_step

MODELS = {
    "mlp": {"model.hidden": (8,)},
    "cnn": {"model.channels": (8,), "augmentation.names": tuple(public_functions(augmentation))},
    "resnet": {"model.depth": 8},
}
VECTORS = ["pca", "pca_whitening"]  # what they make of images


# What a line search can do with: all 20 training examples at once, and no noise.
FULL_BATCH = {key: flatten(default_config())[key] for key in checks.NOT_FOR_LINE_SEARCH} | {
    "batch_size": 20,
    "data.validation": 0.9861,
    "optimizer.line_search_steps": 3,
}


def names(module, *without):
    return st.sampled_from([name for name in public_functions(module) if name not in without])


def rate(value):
    return st.sampled_from([0.0, value])


@st.composite
def choices(draw, models=tuple(MODELS), remat=(False, True)):
    model = draw(st.sampled_from(models))
    config = {
        "model.name": model,
        "preprocessing.name": draw(names(preprocessing, *VECTORS * (model != "mlp"))),
        "model.activation": draw(names(activations)),
        "model.initializer": draw(names(initializers)),
        "model.activation_gain": draw(st.booleans()),
        "model.normalization": draw(names(normalization, *["instance_norm"] * (model == "mlp"))),
        "model.norm_after_activation": draw(st.booleans()),
        "model.norm_groups": 2,
        "model.pooling": draw(names(pooling)),
        "model.fit_weights": draw(names(data_dependent)),
        "model.ghost_batch_size": draw(st.sampled_from([0, 8])),
        "model.weight_standardization": draw(st.booleans()),
        "model.dropout": draw(names(regularization)),
        "model.dropout_rate": draw(rate(0.2)),
        "model.input_dropout_rate": draw(rate(0.1)),
        "model.dropconnect_rate": draw(rate(0.1)),
        "model.stochastic_depth_rate": draw(rate(0.3)),
        "optimizer.name": draw(names(algorithms)),
        "optimizer.weight_decay": draw(rate(0.01)),
        "optimizer.clip_norm": draw(rate(1.0)),
        "augmentation.mixing": draw(names(mixing, *["cutmix"] * (model == "mlp"))),
        "schedule.name": draw(names(schedules)),
        "ensemble.lane_mode": draw(names(ways)),
        "averaging.name": draw(names(averaging)),
        "averaging.start": draw(st.sampled_from(["0 steps", "1 steps"])),
        "loss.label_smoothing": draw(rate(0.1)),
        "loss.l1": draw(rate(1e-4)),
        "loss.l2": draw(rate(1e-4)),
        "optimizer.max_norm": draw(rate(3.0)),
        "optimizer.decay_multipliers": draw(st.sampled_from([(), ((".*", 1.0),)])),
        "optimizer.sam_radius": draw(rate(0.05)),
        "optimizer.lookahead_steps": draw(st.sampled_from([0, 2])),
        "compute.microbatches": draw(st.sampled_from([1, 2])),
        "compute.remat": draw(st.sampled_from(remat)),
        **MODELS[model],
    }
    if config["model.weight_standardization"]:  # would undo it
        config["model.fit_weights"] = "none"
    if model == "resnet":
        fitting = ["fixup"] if config["model.normalization"] == "none" else ["zero_gamma"]
        config["model.residual"] = draw(st.sampled_from(["plain", *fitting]))
    if config["optimizer.name"] == "lbfgs":
        config |= FULL_BATCH
    return config


def two_steps(changes):
    config = default_config()
    config.batch_size = 16
    config.duration = "2 steps"
    config.update_from_flattened_dict(changes)
    run = setup.from_config(config)
    size = config.batch_size
    indices = np.arange(2 * size) % len(run.train)
    data = to_device(run.train.inputs[indices], run.train.labels[indices])
    data |= {"indices": jnp.asarray(indices), "epochs": jnp.zeros(2 * size, jnp.int32)}
    batches = jax.tree.map(lambda array: array.reshape(2, size, *array.shape[1:]), data)
    step = make_train_step(run.config, run.task)
    state = run.init()

    def lane(learning_rate):
        traced = state.hyperparameters
        traced = traced | {"optimizer": traced["optimizer"] | {"learning_rate": learning_rate}}
        return jax.lax.scan(step, state.replace(hyperparameters=traced), batches)

    rates = jnp.asarray([1e-3, 1e-2])
    together = resolve("config.ensemble.lane_mode", config.ensemble.lane_mode, ways)
    lanes, metrics = jax.jit(together(lane, 0, 0), compiler_options=QUICKLY)(rates)
    for leaf in jax.tree.leaves((lanes, metrics)):
        assert np.isfinite(leaf).all()
    # What a checkpoint holds: the second step gives the state its first gave it.
    assert jax.tree.structure(lanes) == jax.tree.structure(state)
    for before, after in zip(jax.tree.leaves(state), jax.tree.leaves(lanes), strict=True):
        assert (2, *before.shape) == after.shape and before.dtype == after.dtype
    alone, _ = jax.jit(lane, compiler_options=QUICKLY)(rates[1])
    for one, many in zip(
        jax.tree.leaves(alone.batch_stats), jax.tree.leaves(lanes.batch_stats), strict=True
    ):
        np.testing.assert_allclose(many[1], one, rtol=1e-2, atol=1e-3)


# To shrink a failure would compile for an hour: what it prints can be read as it is.
LIMITS = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "database": None,
    "phases": [Phase.generate],
}


# A ResNet takes as long to compile as all the others; it is built of their layers. What is computed
# again is compiled again: the quick test leaves that to test_fuzz.py and test_data_dependent.py.
@settings(max_examples=4, derandomize=True, **LIMITS)
@given(choices(models=("mlp", "cnn"), remat=(False,)))
def test_random_choices_compose(changes):
    two_steps(changes)


@pytest.mark.slow
@settings(max_examples=150, **LIMITS)
@given(choices())
def test_many_random_choices_compose(changes):
    two_steps(changes)
