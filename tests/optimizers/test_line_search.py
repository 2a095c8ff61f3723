"""L-BFGS with its line search: the formula, the conditions, and where it ends."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy.optimize import minimize

from research import optimizers
from research.config import default_config
from research.data.feed import to_device
from research.errors import UserError
from research.training import executors, hyperparameters, setup
from research.training.step import make_train_step

MATRIX = np.random.default_rng(0).normal(size=(12, 6))


def loss(w, module=jnp):
    """Convex, not quadratic."""
    return module.log(module.cosh(MATRIX @ w - 1)).sum() + 0.05 * (w**2).sum()


def gradient(w):
    return MATRIX.T @ np.tanh(MATRIX @ w - 1) + 0.1 * w


def run_steps(steps, memory, **changes):
    config = default_config()
    config.duration = f"{steps} steps"
    config.schedule.name = "constant"
    config.optimizer.update({"name": "lbfgs", "learning_rate": 1.0, "memory": memory} | changes)
    numbers = hyperparameters.from_config(config, 100)

    def one(carry, step):
        w, state = carry
        value, g = jax.value_and_grad(loss)(w)
        chain = optimizers.build(config, numbers, step)
        update, state = chain.update(g, state, w, value=value, grad=g, value_fn=loss)
        return (w + update, state), (w, optax.tree.get(state, "learning_rate"))

    w = jnp.full(6, 2.0)
    state = optimizers.build(config, numbers, 0).init(w)
    return jax.jit(lambda: jax.lax.scan(one, (w, state), jnp.arange(steps)))()


def two_loops(g, pairs):
    """Nocedal and Wright, algorithm 7.4, in float64; pairs (s, y), the oldest first."""
    q, alphas = g.copy(), []
    for s, y in reversed(pairs):
        alphas.append(s @ q / (y @ s))
        q = q - alphas[-1] * y
    s, y = pairs[-1]
    r = s @ y / (y @ y) * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - y @ r / (y @ s)) * s
    return r


def test_directions_and_lengths_are_the_books():
    memory = 3
    _, (path, lengths) = run_steps(8, memory)
    path = np.asarray(path, np.float64)
    for step in range(1, 7):
        w, g = path[step], gradient(path[step])
        pairs = [
            (path[t + 1] - path[t], gradient(path[t + 1]) - gradient(path[t]))
            for t in range(max(0, step - memory), step)
        ]
        direction, length = -two_loops(g, pairs), float(lengths[step])
        np.testing.assert_allclose(
            path[step + 1], w + length * direction, rtol=1e-3, atol=1e-4, err_msg=str(step)
        )
        # The strong Wolfe conditions (3.7).
        ahead = w + length * direction
        assert loss(ahead, np) <= loss(w, np) + 1e-4 * length * g @ direction + 1e-6
        assert abs(gradient(ahead) @ direction) <= 0.9 * abs(g @ direction) + 1e-6


def test_a_length_of_1_is_tried_first():
    """Nocedal and Wright, section 3.5: near the minimum it is taken, or steps converge slowly."""
    (w, _), (_, lengths) = run_steps(15, 10)
    assert (np.asarray(lengths)[-5:] == 1).all()
    least = minimize(loss, np.full(6, 2.0), args=(np,), jac=lambda w, _: gradient(w), tol=1e-12)
    assert loss(np.asarray(w, np.float64), np) - least.fun < 1e-5


def test_it_ends_where_scipy_does():
    (w, _), _ = run_steps(30, 10)
    want = minimize(loss, np.full(6, 2.0), args=(np,), jac=lambda w, _: gradient(w), tol=1e-12)
    np.testing.assert_allclose(w, want.x, atol=1e-3)  # of float32


BLOBS = {
    "data.name": "blobs",
    "data.toy_examples": 200,
    "data.validation": 0.0,
    "batch_size": 200,
    "duration": "40 steps",
    "model.hidden": (),
    "model.normalization": "none",
    "loss.l2": 0.01,
    "optimizer.name": "lbfgs",
    "optimizer.learning_rate": 1.0,
    "schedule.name": "constant",
}


def setup_of(**changes):
    config = default_config()
    config.update_from_flattened_dict(BLOBS | changes)
    return setup.from_config(config)


def test_logistic_regression_in_lanes_ends_at_scipys_optimum():
    """Through the train step, in a loop, in lanes of other penalties, the batch in parts."""
    run = setup_of(**{"compute.microbatches": 4})
    data = to_device(run.train.inputs, run.train.labels)
    advance = executors.resident(make_train_step(run.config, run.task), 200)
    state = run.init()

    def lane(l2):
        numbers = state.hyperparameters
        numbers = numbers | {"loss": numbers["loss"] | {"l2": l2}}
        return advance(state.replace(hyperparameters=numbers), data, 40)[0].params["head"]

    penalties = np.asarray([0.01, 0.1], np.float32)
    lanes = jax.jit(jax.vmap(lane))(penalties)
    x = np.asarray(data["inputs"], np.float64)
    x = (x - run.statistics["shift"]) * run.statistics["scale"]
    classes = run.task.outputs
    targets, shape = np.eye(classes)[np.asarray(data["labels"])], (x.shape[1], classes)

    def objective(flat, l2):
        kernel, bias = flat[:-classes].reshape(shape), flat[-classes:]
        logits = x @ kernel + bias
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        error = (np.exp(logs) - targets) / len(x)
        slope = np.concatenate([(x.T @ error + l2 * kernel).ravel(), error.sum(0)])
        return -(targets * logs).sum(1).mean() + l2 / 2 * (kernel**2).sum(), slope

    for number, l2 in enumerate(penalties.astype(float)):
        found = minimize(objective, np.zeros(np.prod(shape) + classes), (l2,), jac=True,
                         tol=1e-12)  # fmt: skip
        kernel = np.asarray(lanes["kernel"][number])
        np.testing.assert_allclose(kernel, found.x[:-classes].reshape(shape), atol=2e-3)
        ours = np.concatenate([kernel.ravel(), lanes["bias"][number]]).astype(np.float64)
        assert objective(ours, l2)[0] == pytest.approx(found.fun, abs=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 50}, r"batch_size = 50 \(allowed: 200, all\)"),
        ({"model.dropout_rate": 0.1}, r"model.dropout_rate = 0.1 \(allowed: 0.0\)"),
        ({"augmentation.mixing": "mixup"}, r"augmentation.mixing = 'mixup' \(allowed: 'none'\)"),
        ({"optimizer.sam_radius": 0.1}, r"optimizer.sam_radius = 0.1 \(allowed: 0.0\)"),
        ({"optimizer.clip_norm": 1.0}, r"optimizer.clip_norm = 1.0 \(allowed: 0.0\)"),
    ],
)
def test_a_loss_that_changes_from_step_to_step_is_refused(changes, words):
    with pytest.raises(UserError, match=f"needs the same loss at every step.*{words}"):
        setup_of(**changes)


def test_the_search_is_bounded():
    """No search takes more evaluations than the config says, at the first step least of all."""
    (_, state), _ = run_steps(3, 10, line_search_steps=1)
    assert int(optax.tree.get(state, "num_linesearch_steps")) == 1
