"""SAM: against a transcription of its paper, and what its second pass must leave alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.test_step import close, small, weights

from research.training.step import make_train_step

STEPS, RADIUS = 20, 0.3


def batches_of(data, count):
    """Of 32, one after the other."""
    return jax.tree.map(lambda a: a[: 32 * count].reshape(count, 32, *a.shape[1:]), data)


def trainer(run, data, count):
    """radius -> (state, metrics) after some steps."""
    start, step = run.init(), make_train_step(run.config, run.task)

    def train(radius):
        numbers = start.hyperparameters
        numbers = numbers | {"optimizer": numbers["optimizer"] | {"sam_radius": radius}}
        return jax.lax.scan(step, start.replace(hyperparameters=numbers), batches_of(data, count))

    return train


LINEAR = {
    "data.toy_examples": 800,
    "model.hidden": (),
    "model.normalization": "none",
    "model.dropout_rate": 0.0,
    "optimizer.name": "momentum",
    "optimizer.learning_rate": 0.5,
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": 0.0,
    "schedule.name": "constant",
    "optimizer.sam_radius": RADIUS,
}


@pytest.mark.parametrize("frozen", [(), ("head/bias",)])
def test_twenty_steps_are_the_papers(frozen):
    """Softmax regression with L2 in float64; what is frozen is not perturbed and not counted."""
    freeze = tuple((pattern, "12 steps") for pattern in frozen)
    run, data = small(**LINEAR, **{"transfer.freeze": freeze})
    state, metrics = jax.jit(trainer(run, data, STEPS))(RADIUS)
    batches = batches_of(data, STEPS)
    start = run.init().params["head"]
    kernel, bias = (np.asarray(start[name], np.float64) for name in ("kernel", "bias"))
    memory, losses = [np.zeros_like(kernel), np.zeros_like(bias)], []

    def loss_and_gradient(x, targets, kernel, bias):
        logits = x @ kernel + bias
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        loss = -(targets * logs).sum(1).mean() + 0.5e-3 * (kernel**2).sum()
        error = (np.exp(logs) - targets) / len(x)
        return loss, [x.T @ error + 1e-3 * kernel, error.sum(0)]

    for step in range(STEPS):
        moves = [1.0, 0.0 if frozen and step < 12 else 1.0]
        x = np.asarray(batches["inputs"][step], np.float64)
        x = (x - run.statistics["shift"]) * run.statistics["scale"]
        targets = np.eye(run.task.outputs)[np.asarray(batches["labels"][step])]
        targets = 0.95 * targets + 0.05 / run.task.outputs
        loss, g = loss_and_gradient(x, targets, kernel, bias)
        losses.append(loss)
        g = [a * on for a, on in zip(g, moves, strict=True)]
        length = np.sqrt(sum((a**2).sum() for a in g))
        top = [w + RADIUS * a / length for w, a in zip((kernel, bias), g, strict=True)]
        _, g = loss_and_gradient(x, targets, *top)
        memory = [0.9 * m + a for m, a in zip(memory, g, strict=True)]
        kernel, bias = (
            w - 0.5 * on * m for w, m, on in zip((kernel, bias), memory, moves, strict=True)
        )
    np.testing.assert_allclose(state.params["head"]["kernel"], kernel, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.params["head"]["bias"], bias, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(metrics.loss, losses, rtol=1e-4)  # of the first pass


def test_statistics_and_dropout_are_those_of_one_pass():
    """Batch norm's statistics come from the weights as they are; both passes drop the same units:
    with a radius of next to nothing SAM is the plain step.
    """
    dropping = {"model.dropout_rate": 0.5, "optimizer.clip_norm": 0.0}
    plain, told = jax.jit(trainer(*small(**dropping), 1))(0.0)
    train = jax.jit(trainer(*small(**dropping, **{"optimizer.sam_radius": 0.5}), 1))
    (near, _), (far, metrics) = train(1e-6), train(0.5)
    close(weights(near), weights(plain), rtol=1e-4, atol=1e-5)
    close(far.batch_stats, plain.batch_stats, rtol=1e-6, atol=1e-7)
    assert float(metrics.loss[0]) == pytest.approx(float(told.loss[0]), rel=1e-6)
    assert not np.allclose(far.params["head"]["kernel"], plain.params["head"]["kernel"], atol=1e-5)


def test_the_radius_is_traced_lane_by_lane():
    train = trainer(*small(**LINEAR), 5)
    radii, alone = jnp.asarray([0.0, 0.3]), jax.jit(train)
    lanes = jax.jit(jax.vmap(train))(radii)[0].params
    for number, radius in enumerate(radii):
        lane = jax.tree.map(lambda a, n=number: a[n], lanes)
        close(lane, alone(radius)[0].params, rtol=1e-4, atol=1e-6)
