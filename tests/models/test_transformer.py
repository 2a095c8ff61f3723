"""The transformer: a reference in NumPy, what it may see, and where its noise acts."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import erf

from research import models
from research.config import default_config
from research.errors import UserError
from research.models import activations, normalization
from research.names import public_functions
from research.training import hyperparameters

SMALL = {"name": "transformer", "blocks": 2, "width": 8, "heads": 2, "patch_size": 2,
         "normalization": "layer_norm", "activation": "gelu"}  # fmt: skip
IMAGES = jax.random.normal(jax.random.key(1), (3, 6, 4, 2))
TOKENS = jax.random.randint(jax.random.key(2), (3, 6), 0, 11)


def build(inputs, outputs=11, **model):
    config = default_config()
    config.model.update(SMALL | model)
    module = models.build(config, hyperparameters.from_config(config, 1000), outputs)
    variables = jax.jit(lambda: module.init(jax.random.key(0), inputs[:1], train=False))()
    # Biases, scales and positions that matter, which they hardly do at first.
    keys = iter(jax.random.split(jax.random.key(3), 1000))
    params = jax.tree.map(
        lambda p: p + 0.3 * jax.random.normal(next(keys), p.shape), variables["params"]
    )
    return module, variables, {**variables, "params": params}


def reference(params, tokens, heads):
    """One causal block with everything around it, in float64."""

    def affine(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def norm(layer, x):
        layer = layer.get("LayerNorm_0", layer)
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return scaled * layer["scale"] + layer["bias"]

    def attention(block, x):
        mixed, size = np.zeros_like(x), x.shape[-1] // heads
        query, key, value = (affine(block[name], x) for name in ("query", "key", "value"))
        for row in range(len(x)):
            for head in range(heads):
                own = slice(head * size, (head + 1) * size)
                for time in range(x.shape[1]):
                    scores = key[row, : time + 1, own] @ query[row, time, own] / np.sqrt(size)
                    weights = np.exp(scores - scores.max())
                    mixed[row, time, own] = weights @ value[row, : time + 1, own] / weights.sum()
        return affine(block["out"], mixed)

    p = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
    block = p["block1"]
    x = p["tokens"]["embedding"][np.asarray(tokens)] + p["position_embedding"]
    x = x + attention(block, norm(block["LayerNorm_0"], x))
    y = affine(block["expand"], norm(block["LayerNorm_1"], x))
    x = x + affine(block["contract"], y * (1 + erf(y / np.sqrt(2))) / 2)
    return affine(p["head"], norm(p["head_norm"], x))


def test_one_block_is_the_papers():
    module, _, variables = build(TOKENS, blocks=1)
    got = module.apply(variables, TOKENS, train=False)
    want = reference(variables["params"], TOKENS, heads=2)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    assert np.std(want) > 0.1


@pytest.mark.parametrize("time", [0, 3, 4])
def test_the_future_changes_nothing(time):
    module, _, variables = build(TOKENS)
    other = TOKENS.at[:, time + 1 :].set((TOKENS[:, time + 1 :] + 1) % 11)
    for train in (False, True):
        before, after = (module.apply(variables, x, train=train) for x in (TOKENS, other))
        np.testing.assert_array_equal(before[:, : time + 1], after[:, : time + 1])
        assert (np.abs(before - after)[:, time + 1 :].max((0, 2)) > 1e-4).all()


def test_the_gradient_by_the_future_is_zero_and_by_the_past_is_not():
    """Of patches, whose positions are not averaged here: by the pixels of each patch."""
    module, _, variables = build(IMAGES, causal="yes")

    def state(images, time):
        _, found = module.apply(
            variables, images, train=False, mutable=["intermediates"],
            capture_intermediates=lambda module, _: module.name == "head_norm",
        )  # fmt: skip
        return jnp.sin(found["intermediates"]["head_norm"]["__call__"][0][:, time]).sum()

    for time in range(6):  # 3 rows of 2 patches
        gradient = np.asarray(jax.grad(state)(IMAGES, time))
        patches = gradient.reshape(3, 3, 2, 2, 2, 2).transpose(0, 1, 3, 2, 4, 5).reshape(3, 6, -1)
        size = np.abs(patches).max(-1)
        assert (size[:, : time + 1] > 0).all() and (size[:, time + 1 :] == 0).all()


def test_without_positions_patches_have_no_order():
    module, _, variables = build(IMAGES)
    order = np.array([2, 0, 1])
    moved = IMAGES.reshape(3, 3, 2, 4, 2)[:, order].reshape(IMAGES.shape)  # rows of patches
    placed = [module.apply(variables, x, train=False) for x in (IMAGES, moved)]
    assert np.abs(placed[0] - placed[1]).max() > 1e-3
    params = variables["params"]
    params = params | {"position_embedding": jnp.zeros_like(params["position_embedding"])}
    got = [module.apply({"params": params}, x, train=False) for x in (IMAGES, moved)]
    np.testing.assert_allclose(got[0], got[1], rtol=1e-4, atol=1e-5)
    module, _, variables = build(TOKENS, causal="no")
    params = variables["params"]
    params = params | {"position_embedding": jnp.zeros_like(params["position_embedding"])}
    permuted = np.array([5, 2, 0, 1, 4, 3])
    got, want = (module.apply({"params": params}, x, train=False)
                 for x in (TOKENS[:, permuted], TOKENS))  # fmt: skip
    np.testing.assert_allclose(got, want[:, permuted], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blocks", [1, 8])
@pytest.mark.parametrize("inputs", [IMAGES, TOKENS], ids=["images", "tokens"])
def test_the_loss_starts_at_that_of_a_guess(inputs, blocks):
    module, variables, _ = build(inputs, blocks=blocks, width=64, heads=4)
    outputs = module.apply(variables, inputs, train=False)
    assert outputs.shape == ((3, 11) if inputs is IMAGES else (3, 6, 11))
    # The mean over all labels that an example may have: one label alone depends on the draw.
    losses = jax.nn.logsumexp(outputs, axis=-1) - outputs.mean(-1)
    assert float(losses.mean()) == pytest.approx(np.log(11), abs=0.03)


@pytest.mark.parametrize(
    "changes",
    [{"dropout_rate": 0.5}, {"stochastic_depth_rate": 0.9}, {"input_dropout_rate": 0.5},
     {"dropconnect_rate": 0.5}],
    ids=str,
)  # fmt: skip
def test_noise_acts_in_training_only(changes):
    module, _, variables = build(IMAGES, **changes)
    plain = build(IMAGES)[0].apply(variables, IMAGES, train=False)
    np.testing.assert_array_equal(module.apply(variables, IMAGES, train=False), plain)
    noisy = [
        module.apply(variables, IMAGES, train=True, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    ]
    assert np.abs(noisy[0] - noisy[1]).max() > 1e-3


@pytest.mark.parametrize("name", public_functions(activations))
def test_every_activation_applies(name):
    module, _, variables = build(IMAGES, activation=name, blocks=1)
    outputs = jax.jit(lambda: module.apply(variables, IMAGES, train=False))()
    assert np.isfinite(outputs).all()


@pytest.mark.parametrize("name", public_functions(normalization))
@pytest.mark.parametrize("inputs", [IMAGES, TOKENS], ids=["images", "tokens"])
def test_every_normaliser_applies_or_would_see_the_future(inputs, name):
    if inputs is TOKENS and name not in ("layer_norm", "none"):
        with pytest.raises(UserError, match=f"'{name}' .* would see the future"):
            build(inputs, normalization=name)
        return
    module, _, variables = build(inputs, normalization=name, norm_groups=4, blocks=1)
    outputs, _ = module.apply(variables, inputs, train=True, mutable=["batch_stats"])
    assert np.isfinite(outputs).all()


def test_lanes_compute_the_same():
    module, _, variables = build(TOKENS)

    def loss(variables):
        return jnp.sin(module.apply(variables, TOKENS, train=True)).sum()

    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), variables)
    lanes = jax.jit(jax.vmap(jax.grad(loss)))(stacked)
    alone = jax.jit(jax.grad(loss))(jax.tree.map(lambda leaf: 2 * leaf, variables))
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a[1], b, rtol=1e-3, atol=1e-4), lanes, alone
    )


def test_a_sequence_may_be_shorter_but_not_longer():
    module, _, variables = build(TOKENS)
    whole = module.apply(variables, TOKENS, train=False)
    part = module.apply(variables, TOKENS[:, :4], train=False)
    np.testing.assert_allclose(part, whole[:, :4], rtol=1e-5, atol=1e-6)
    with pytest.raises(UserError, match="7 tokens is longer than the 6"):
        module.apply(variables, jnp.zeros((1, 7), jnp.int32), train=False)


@pytest.mark.parametrize(
    ("inputs", "model", "message"),
    [
        (jnp.zeros((1, 5)), {}, r"takes images or rows of tokens, the data have shape \(5,\)"),
        (IMAGES, {"patch_size": 4}, r"patch_size = 4 does not divide .* 6 x 4 .*allowed: 1, 2\)"),
        (IMAGES, {"heads": 3}, "heads = 3 does not divide config.model.width = 8"),
        (IMAGES, {"residual": "fixup"}, "residual = 'fixup' is of resnet"),
    ],
)
def test_what_does_not_fit_is_named(inputs, model, message):
    with pytest.raises(UserError, match=message):
        build(inputs, **model)
