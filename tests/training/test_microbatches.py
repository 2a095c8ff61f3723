"""Gradient accumulation: parts of a batch make the whole batch's step, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from training.test_step import close, small, weights

from research.errors import UserError
from research.models.batch_norm import BatchNorm
from research.training.metrics import Sums
from research.training.microbatches import over_batch
from research.training.step import make_train_step

PLAIN = {
    "model.normalization": "layer_norm",
    "model.dropout_rate": 0.0,
    "loss.l1": 1e-3,
    "optimizer.name": "momentum",
    "optimizer.learning_rate": 0.1,
}


def three_steps(parts, **changes):
    run, data = small(**{"compute.microbatches": parts} | changes)
    batches = jax.tree.map(lambda a: a[:96].reshape(3, 32, *a.shape[1:]), data)
    step = make_train_step(run.config, run.task)
    return jax.jit(lambda state: jax.lax.scan(step, state, batches))(run.init())


@pytest.mark.parametrize(
    ("parts", "changes"),
    [
        (4, {"optimizer.sam_radius": 0.1}),
        (32, {"augmentation.mixing": "mixup"}),
        (4, {"loss.class_weights": (1.0, 9.0, 0.1), "optimizer.sam_radius": 0.1}),
        (32, {"loss.class_weights": (1.0, 3.0, 0.0), "loss.label_smoothing": 0.0}),
        (4, {"loss.name": "focal", "loss.class_weights": ("balanced",)}),
    ],
)
def test_parts_are_the_whole_batch(parts, changes):
    """Penalties once, mixing before the cut; SAM climbs along the whole batch's gradient.

    Examples weigh what their classes do, in parts whose weights differ or are 0.
    """
    changes = PLAIN | changes
    whole, told = three_steps(1, **changes)
    cut, metrics = three_steps(parts, **changes)
    close(weights(cut), weights(whole), rtol=1e-5, atol=1e-6)
    close(metrics, told, rtol=1e-5)
    assert jax.tree.structure(cut) == jax.tree.structure(whole)
    assert jax.tree.map(jax.typeof, metrics) == jax.tree.map(jax.typeof, told)


def test_batch_norm_sees_part_after_part():
    """Each normalised by its own statistics; the running ones move once a part."""
    model = BatchNorm(decay=0.7)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(12, 3)) * 2 + 1, jnp.float32)
    variables = model.init(jax.random.key(0), x, train=False)

    def objective(params, collections, batch, key):
        y, updates = model.apply(
            {"params": params, **collections}, batch, train=True, mutable=["batch_stats"]
        )
        loss = (y**3).mean()
        return loss, (Sums({"loss": (loss * len(batch), len(batch))}), updates)

    key = jax.random.key(1)
    gradient, value = over_batch(objective, x, key, 3)
    params, start = variables["params"], {"batch_stats": variables["batch_stats"]}
    gradients, (sums, got) = jax.jit(gradient)(params, start)
    stats = start
    parts, found, losses = [x[0::3], x[1::3], x[2::3]], [], []
    for part in parts:
        g, (s, stats) = jax.grad(objective, has_aux=True)(params, stats, part, key)
        found.append(g)
        losses.append(s.means["loss"][0])
    close(got, stats, rtol=1e-6)
    close(gradients, jax.tree.map(lambda *g: sum(g) / 3, *found), rtol=1e-5, atol=1e-7)
    total, weight = sums.means["loss"]
    assert float(total) == pytest.approx(float(sum(losses)), rel=1e-5) and weight == 12
    # What a line search is given: the same mean, and its own gradient.
    mean, slope = jax.jit(jax.value_and_grad(value))(params, start)
    assert float(mean) == pytest.approx(float(sum(losses)) / 12, rel=1e-5)
    close(slope, gradients, rtol=1e-5, atol=1e-7)


def test_each_part_drops_other_units():
    """Were the masks equal, equal examples would have equal losses in every part."""

    def objective(params, collections, batch, key):
        kept = jax.random.bernoulli(key, 0.5, batch.shape)
        return (params * kept).sum(), (Sums({"kept": (kept.sum(), 1)}), collections)

    seen = []
    for parts in (1, 4):
        gradient, _ = over_batch(objective, jnp.ones((64, 8)), jax.random.key(0), parts)
        seen.append(gradient(jnp.float32(1), {})[1][0].means["kept"][0])
    assert seen[0] != seen[1] and 180 < seen[1] < 330


def test_parts_take_less_memory():
    """What XLA sets aside for the step of a wide net; its weights are small beside the batch."""
    temporary = []
    for parts in (1, 16):
        run, data = small(
            **PLAIN,
            **{"model.hidden": (64,) * 3, "batch_size": 4096, "data.toy_examples": 5000}
            | {"compute.microbatches": parts},
        )
        batch = {name: array[:4096] for name, array in data.items()}
        program = jax.jit(make_train_step(run.config, run.task)).lower(run.init(), batch)
        temporary.append(program.compile().memory_analysis().temp_size_in_bytes)
    assert temporary[1] < temporary[0] / 4


@pytest.mark.parametrize(
    ("parts", "nearest"), [(3, "2 or 4"), (5, "4 or 8"), (31, "16 or 32"), (64, "32")]
)
def test_parts_that_do_not_divide_are_refused_with_the_nearest(parts, nearest):
    with pytest.raises(UserError, match=f"microbatches = {parts} does .* such as {nearest}"):
        small(**{"compute.microbatches": parts})
