"""The one step: what it computes, and that every executor computes the same."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.config import default_config
from research.data.feed import to_device
from research.data.shuffle import batch_indices
from research.training import executors, hyperparameters, setup
from research.training.metrics import NEVER
from research.training.step import make_eval_step, make_train_step


def small(**changes):
    """A run on a toy set with everything that can be traced switched on."""
    config = default_config()
    config.data.name = "spirals"
    config.data.toy_examples = 300
    config.batch_size = 32
    config.duration = "40 steps"
    config.model.hidden = (16, 16)
    config.model.dropout_rate = 0.1
    config.loss.label_smoothing = 0.05
    config.loss.l2 = 1e-3
    config.optimizer.weight_decay = 1e-2
    config.optimizer.clip_norm = 1.0
    config.update_from_flattened_dict(changes)
    run = setup.from_config(config)
    return run, to_device(run.train.inputs, run.train.labels)


def close(a, b, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), a, b)


def weights(state):
    return {"params": state.params, "batch_stats": state.batch_stats}


def test_one_step_by_hand():
    """Loss, gradient and update of a linear model in float64: softmax regression with SGD."""
    run, data = small(
        **{
            "model.hidden": (),
            "model.normalization": "none",
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.5,
            "optimizer.clip_norm": 0.0,
            "schedule.name": "constant",
            "loss.l1": 1e-2,
        }
    )
    state = run.init()
    batch = {name: array[:32] for name, array in data.items()}
    after, metrics = jax.jit(make_train_step(run.config, run.task))(state, batch)

    x = np.asarray(batch["inputs"], np.float64)
    x = (x - run.statistics["shift"]) * run.statistics["scale"]
    kernel = np.asarray(state.params["head"]["kernel"], np.float64)
    logits = x @ kernel + np.asarray(state.params["head"]["bias"], np.float64)
    classes = run.task.outputs
    targets = 0.95 * np.eye(classes)[np.asarray(batch["labels"])] + 0.05 / classes
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss = -(targets * np.log(probabilities)).sum(1).mean() + 0.5e-3 * (kernel**2).sum()
    loss += 1e-2 * np.abs(kernel).sum()
    gradient = x.T @ (probabilities - targets) / 32 + 1e-3 * kernel + 1e-2 * np.sign(kernel)
    total, weight = metrics.sums.means["loss"]
    assert total / 32 == pytest.approx(loss, rel=1e-6)
    hits, count = metrics.sums.means["accuracy"]
    assert int(weight) == int(count) == int(metrics.examples) == 32
    assert int(hits) == (logits.argmax(1) == np.asarray(batch["labels"])).sum()
    assert metrics.learning_rate == 0.5
    wanted = kernel - 0.5 * (gradient + 1e-2 * kernel)
    np.testing.assert_allclose(after.params["head"]["kernel"], wanted, rtol=1e-5, atol=1e-7)
    assert int(after.step) == 1


def test_a_dispatch_of_many_steps_is_the_steps_one_by_one():
    run, data = small()
    step = jax.jit(make_train_step(run.config, run.task))
    program = jax.jit(executors.resident(make_train_step(run.config, run.task), 32))
    single, losses = run.init(), []
    for number in range(7):
        indices = batch_indices(0, number, 32, len(data["labels"]))
        single, metrics = step(single, {name: array[indices] for name, array in data.items()})
        losses.append(float(metrics.sums.means["loss"][0]))
    dispatched, metrics = program(run.init(), data, 7)
    close(weights(dispatched), weights(single), rtol=1e-5, atol=1e-6)
    total, weight = metrics.sums.means["loss"]
    assert total == pytest.approx(sum(losses), rel=1e-5)
    assert int(weight) == int(metrics.examples) == 7 * 32
    assert int(metrics.first_nonfinite_step) == NEVER
    # However the steps are cut into dispatches, the bits are the same.
    cut, _ = program(program(run.init(), data, 3)[0], data, 4)
    jax.tree.map(np.testing.assert_array_equal, weights(cut), weights(dispatched))


def test_the_shuffle_is_computed_once_for_each_example():
    """Not once for each pixel that is gathered, as when XLA fuses it into the gather."""
    run, data = small()
    program = jax.jit(executors.resident(make_train_step(run.config, run.task), 32))
    text = program.lower(run.init(), data, 1).compile().as_text()
    gathers = [part for part in text.split("\n\n") if " gather(" in part]
    assert gathers
    assert not [part for part in gathers if str(0x7FEB352D) in part]  # a number of its hash


def test_four_lanes_of_a_vmap_are_four_solo_runs():
    """Learning rates, seeds, weight decays and dropout rates differ; one compiled program."""
    run, data = small()
    config, examples = run.config, len(run.train.labels)
    changes = [
        (1e-3, 0, 0.0, 0.1),
        (1e-2, 1, 1e-2, 0.3),
        (3e-3, 2**32 - 1, 0.1, 0.0),
        (0.1, 3, 1e-3, 0.5),
    ]
    lanes = []
    for rate, seed, decay, dropout in changes:
        numbers = hyperparameters.from_config(config, examples)
        numbers["optimizer"]["learning_rate"] = np.float32(rate)
        numbers["optimizer"]["weight_decay"] = np.float32(decay)
        numbers["model"]["dropout_rate"] = np.float32(dropout)
        numbers["seed"] = np.uint32(seed)
        lanes.append(numbers)

    def train(numbers):
        from research.training.state import init_state

        state = init_state(config, numbers, run.statistics, run.train.inputs[:1], run.task.outputs)
        advance = executors.resident(make_train_step(config, run.task), 32)
        state, metrics = advance(state, data, 10)
        return weights(state), metrics

    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *lanes)
    together = jax.jit(jax.vmap(train))(stacked)
    solo = jax.jit(train)
    finals = [solo(numbers) for numbers in lanes]
    assert solo._cache_size() == 1  # numbers never recompile
    for lane, want in enumerate(finals):
        close(jax.tree.map(lambda a, lane=lane: a[lane], together), want, rtol=1e-3, atol=1e-4)
    kernels = [np.asarray(final[0]["params"]["head"]["kernel"]) for final in finals]
    assert all(not np.allclose(a, b, atol=1e-3) for i, a in enumerate(kernels) for b in kernels[:i])


def test_the_step_over_a_sharded_batch():
    """One device here, but the same code path: a mesh, a sharded batch, a replicated state."""
    run, data = small(**{"model.dropout_rate": 0.0})
    mesh = jax.make_mesh((1,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
    rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
    step = jax.jit(make_train_step(run.config, run.task))
    batch = {name: array[:32] for name, array in data.items()}
    plain, _ = step(run.init(), batch)
    sharded, _ = step(run.init(), jax.device_put(batch, rows))
    close(weights(sharded), weights(plain), rtol=1e-6, atol=1e-7)


def test_a_loss_that_is_not_finite_is_found_at_its_step():
    run, data = small(**{"optimizer.learning_rate": 1e30, "optimizer.clip_norm": 0.0,
                         "optimizer.name": "sgd", "schedule.name": "constant"})  # fmt: skip
    _, metrics = jax.jit(executors.resident(make_train_step(run.config, run.task), 32))(
        run.init(), data, 20
    )
    assert 1 < int(metrics.first_nonfinite_step) <= 20


def test_evaluation_uses_no_smoothing_no_penalty_no_dropout():
    run, data = small()
    state = run.init()
    batch = {**data, "mask": jnp.ones(len(data["labels"]), bool)}
    sums = jax.jit(make_eval_step(run.config, run.task))(state, batch)
    plain, _ = small(**{"loss.label_smoothing": 0.0, "loss.l2": 0.0, "model.dropout_rate": 0.0})
    again = jax.jit(make_eval_step(plain.config, run.task))(state, batch)
    close(sums, again)


def test_training_does_not_touch_the_masks_of_biases():
    """Weight decay and L2 concern kernels alone."""
    run, data = small(**{"optimizer.learning_rate": 1e-2, "optimizer.weight_decay": 1e3,
                         "optimizer.name": "sgd", "optimizer.clip_norm": 0.0,
                         "schedule.name": "constant"})  # fmt: skip
    state = run.init()
    batch = {name: array[:32] for name, array in data.items()}
    after, _ = make_train_step(run.config, run.task)(state, batch)
    shrunk = jax.tree.map(lambda a, b: float(optax.tree.norm(a - b)), after.params, state.params)
    assert shrunk["Dense_0"]["kernel"] > 10
    assert shrunk["BatchNorm_0"]["scale"] < 0.1
