"""Precision and rematerialisation: what is computed how, not what is computed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import default_config
from research.models import activations, normalization
from research.names import public_functions
from research.training import setup
from research.training.step import make_train_step

MODELS = {
    "mlp": {"model.hidden": (8, 8)},
    "cnn": {"model.channels": (8, 8)},
    "resnet": {"model.depth": 8},
    "transformer": {"model.blocks": 2, "model.width": 16, "model.heads": 2},
}


def built(model: str, **changes):
    """A run of random digits, its first batch, and a function of (state, batch)."""
    config = default_config()
    config.model.name = model
    config.batch_size = 16
    config.model.dropout_rate = 0.2
    config.optimizer.name = "sgd"
    config.schedule.name = "constant"
    config.update_from_flattened_dict({**MODELS[model], **changes})
    run = setup.from_config(config)
    batch = {"inputs": run.train.inputs[:16], "labels": run.train.labels[:16]}
    return run.init(), batch, make_train_step(config, run.task)


def products(jaxpr) -> list[set[str]]:
    """The dtypes that go into each matrix product and convolution, in all inner programs too."""
    found = []
    for equation in jaxpr.eqns:
        if equation.primitive.name in ("dot_general", "conv_general_dilated"):
            found.append({str(variable.aval.dtype) for variable in equation.invars})
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda p: hasattr(p, "eqns") or hasattr(p, "jaxpr")
        ):
            inner = getattr(inner, "jaxpr", inner)
            found += products(inner) if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize("model", MODELS)
def test_bfloat16_concerns_activations_and_nothing_that_adds_up(model):
    state, batch, step = built(model, **{"compute.dtype": "bfloat16"})
    jaxpr = jax.make_jaxpr(step)(state, batch).jaxpr
    assert len(found := products(jaxpr)) >= 6
    assert all(dtypes == {"bfloat16"} for dtypes in found)
    after, metrics = jax.eval_shape(step, state, batch)
    kept = jax.tree.leaves((after.params, after.batch_stats))
    assert all(leaf.dtype == jnp.float32 for leaf in kept)
    total, _ = metrics.sums.means["loss"]
    assert total.dtype == jnp.float32


def test_bfloat16_trains_nearly_as_float32():
    losses = []
    for dtype in ("float32", "bfloat16"):
        state, batch, step = built("mlp", **{"compute.dtype": dtype})
        for _ in range(3):
            state, metrics = jax.jit(step)(state, batch)
        losses.append(float(metrics.sums.means["loss"][0]))
    assert losses[0] != losses[1] and losses[1] == pytest.approx(losses[0], rel=0.03)


@pytest.mark.parametrize("name", public_functions(normalization))
def test_normalisers_keep_bfloat16(name):
    changes = {"compute.dtype": "bfloat16", "model.normalization": name, "model.norm_groups": 2}
    state, batch, step = built("cnn", **changes)
    found = products(jax.make_jaxpr(step)(state, batch).jaxpr)
    assert all(dtypes == {"bfloat16"} for dtypes in found)


@pytest.mark.parametrize("name", public_functions(activations))
def test_activations_keep_bfloat16(name):
    state, batch, step = built("mlp", **{"compute.dtype": "bfloat16", "model.activation": name})
    found = products(jax.make_jaxpr(step)(state, batch).jaxpr)
    assert all(dtypes == {"bfloat16"} for dtypes in found)


@pytest.mark.parametrize("model", MODELS)
def test_remat_computes_the_same_and_keeps_less(model):
    state, batch, step = built(model)
    same, _, remat = built(model, **{"compute.remat": True})
    jax.tree.map(np.testing.assert_array_equal, state.params, same.params)
    after, metrics = jax.jit(step)(state, batch)
    found, other = jax.jit(remat)(state, batch)
    np.testing.assert_allclose(other.loss, metrics.loss, rtol=1e-6)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        (found.params, found.batch_stats),
        (after.params, after.batch_stats),
    )
    assert len(products(jax.make_jaxpr(remat)(state, batch).jaxpr)) > len(
        products(jax.make_jaxpr(step)(state, batch).jaxpr)
    )
