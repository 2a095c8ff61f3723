"""Weights fitted to data: what each layer then gives, on every model; what is left alone."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research import models
from research.config import default_config
from research.models import data_dependent
from research.models.conv import Conv
from research.models.dense import Dense
from research.names import public_functions
from research.training import hyperparameters, setup

INPUTS = jax.random.normal(jax.random.key(1), (64, 12, 12, 3)) * 3 + 1


def fitted(scheme, inputs=INPUTS, seed=0, **model):
    config = default_config()
    config.model.update({"depth": 8, "hidden": (32,) * 3, "initializer": "orthogonal", **model})
    numbers = hyperparameters.from_config(config, 1000)
    module = models.build(config, numbers, 10)
    variables = module.init(jax.random.key(seed), inputs[:1], train=False)

    apply = functools.partial(module.apply, train=False)
    params = getattr(data_dependent, scheme)(apply, variables, inputs)
    return module, variables, params


def outputs(module, variables, params, inputs=INPUTS):
    """What each hidden affine layer gives, by path."""
    found = {}

    def note(call, args, kwargs, context):
        y = call(*args, **kwargs)
        if isinstance(context.module, (Dense, Conv)):
            found["/".join(context.module.path)] = np.asarray(y, np.float64)
        return y

    with nn.intercept_methods(note):
        module.apply({**variables, "params": params}, inputs, train=False)
    return found


@pytest.mark.parametrize("scheme", [n for n in public_functions(data_dependent) if n != "none"])
@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("normalization", ["none", "layer_norm"])
def test_every_hidden_layer_has_variance_1(scheme, name, normalization):
    module, variables, params = fitted(scheme, name=name, normalization=normalization)
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, variables["params"])
    found = outputs(module, variables, params)
    np.testing.assert_array_equal(params["head"]["kernel"], variables["params"]["head"]["kernel"])
    del found["head"]
    assert len(found) >= 2
    for y in found.values():
        if scheme == "lsuv":
            assert y.var() == pytest.approx(1, rel=1e-3)
        else:
            axes = tuple(range(y.ndim - 1))
            np.testing.assert_allclose(y.var(axes), 1, rtol=1e-2)
            if normalization == "none":  # which leaves the layers a bias
                np.testing.assert_allclose(y.mean(axes), 0, atol=1e-3)


@pytest.mark.parametrize("scheme", ["lsuv", "unit_variance"])
@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_the_size_of_the_inputs_does_not_matter(scheme, size):
    small = {"depth": 8, "name": "mlp", "normalization": "none", "activation": "tanh"}
    inputs = INPUTS.reshape(64, -1) * size
    module, variables, params = fitted(scheme, inputs, **small)
    found = outputs(module, variables, params, inputs)
    for name, y in found.items():
        if name != "head":
            np.testing.assert_allclose(
                y.var(0 if scheme == "unit_variance" else None), 1, rtol=1e-2
            )


def test_a_constant_unit_is_left_alone_whatever_its_value():
    """Equal outputs have the deviation 0, not that of their rounding; an ulp more is rounding."""
    y = np.full((4096, 6), 0.0, np.float32)
    y += np.float32([0.1, 1e-20, 1e20, 0, 3, 7])
    y[::2, 4] = np.nextafter(np.float32(3), np.float32(4))
    y[:, 5] += np.linspace(0, 1e-2, 4096, dtype=np.float32)
    found = jax.jit(lambda y: data_dependent._deviation(y, (0,)))(y)
    assert (np.asarray(found[:5]) == 0).all()
    assert float(found[5]) == pytest.approx(y[:, 5].astype(np.float64).std(), rel=1e-3)


def test_lsuv_changes_the_scale_of_kernels_only():
    _, variables, params = fitted("lsuv", normalization="none", initial_bias=0.3)
    for name in ("Dense_0", "Dense_1", "Dense_2"):
        before, after = variables["params"][name], params[name]
        ratio = np.asarray(after["kernel"] / before["kernel"])
        np.testing.assert_allclose(ratio, ratio.mean(), rtol=1e-3)
        np.testing.assert_allclose(after["bias"], before["bias"], rtol=1e-6)


def test_layers_of_zeros_are_left_alone():
    module, variables, params = fitted(
        "lsuv", name="resnet", normalization="none", residual="fixup"
    )
    last = params["stage1_block1"]["Conv_1"]["kernel"]
    assert not np.asarray(last).any()
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


def test_in_lanes_each_lane_has_its_own():
    def kernel(seed):
        config = default_config()
        config.model.normalization = "none"
        numbers = hyperparameters.from_config(config, 1000)
        module = models.build(config, numbers, 10)
        variables = module.init(jax.random.key(seed), INPUTS[:1], train=False)
        apply = functools.partial(module.apply, train=False)
        return data_dependent.lsuv(apply, variables, INPUTS)["Dense_1"]["kernel"]

    lanes = jax.jit(jax.vmap(kernel))(jnp.arange(3))
    for seed, lane in enumerate(lanes):
        np.testing.assert_allclose(lane, kernel(seed), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("scheme", "name"), [("lsuv", "mlp"), ("unit_variance", "mlp"), ("unit_variance", "cnn")]
)
def test_blocks_that_are_recomputed_are_fitted_alike(scheme, name):
    """Their layers are traced in programs of their own, out of which no array may leak."""

    def params(remat):
        config = default_config()
        config.model.update({"name": name, "hidden": (8, 8), "channels": (4,)})
        config.compute.remat = remat
        numbers = hyperparameters.from_config(config, 1000)
        module = models.build(config, numbers, 10)
        variables = module.init(jax.random.key(0), INPUTS[:1], train=False)
        apply = functools.partial(module.apply, train=False)
        return getattr(data_dependent, scheme)(apply, variables, INPUTS)

    fitted, recomputed = (jax.jit(params, static_argnums=0)(remat) for remat in (False, True))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), fitted, recomputed
    )


def test_a_run_starts_from_fitted_weights():
    config = default_config()
    config.model.hidden = (20,) * 10
    config.model.normalization = "none"
    config.model.initializer = "xavier_normal"
    drawn = setup.from_config(config).init()
    config.model.fit_weights = "lsuv"
    run = setup.from_config(config)
    state = run.init()
    assert not np.array_equal(state.params["Dense_0"]["kernel"], drawn.params["Dense_0"]["kernel"])
    model = models.build(config, state.hyperparameters, run.task.outputs)
    inputs = (run.train.inputs - run.statistics["shift"]) * run.statistics["scale"]
    found = outputs(model, {}, state.params, jnp.asarray(inputs, jnp.float32))
    variances = [y.var() for name, y in found.items() if name != "head"]
    np.testing.assert_allclose(variances, 1, rtol=0.2)  # on all of train; fitted to a part
