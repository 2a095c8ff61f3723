"""Every model: shapes, sizes of the papers, names that do not exist, inputs that do not fit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from research import models
from research.config import default_config
from research.errors import UserError
from research.training import hyperparameters


def build(shape=(32, 32, 3), outputs=10, **model):
    config = default_config()
    config.model.update(model)
    numbers = hyperparameters.from_config(config, 1000)
    module = models.build(config, numbers, outputs)

    def variables():
        return module.init(jax.random.key(0), jnp.zeros((1, *shape)), train=False)

    return module, variables


def count(tree) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("name", models.names())
@pytest.mark.parametrize("normalization", ["batch_norm", "none"])
def test_every_model_gives_finite_logits_and_changes_only_statistics(name, normalization):
    module, variables = build(name=name, normalization=normalization, depth=20, hidden=(8,))
    variables = jax.jit(variables)()
    x = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    logits, updates = module.apply(variables, x, train=True, mutable=["batch_stats"])
    assert logits.shape == (4, 10) and logits.dtype == jnp.float32
    assert np.isfinite(logits).all()
    assert set(variables) == {"params"} | set(updates)
    assert bool(updates) == (normalization == "batch_norm")
    if updates:  # the head's weights are small: the loss starts within var / 2 of log(outputs)
        assert np.std(logits) < 1
    assert module.apply(variables, x[:0], train=False).shape == (0, 10)


@pytest.mark.parametrize(
    ("depth", "parameters"),
    # He et al. (2015), table 6, in millions: .27, .46, .66, .85, 1.7; options A has no more.
    [(20, 0.27e6), (32, 0.46e6), (44, 0.66e6), (56, 0.85e6), (110, 1.7e6)],
)
def test_cifar_resnets_have_the_papers_sizes(depth, parameters):
    _, variables = build(name="resnet", depth=depth)
    assert count(jax.eval_shape(variables)["params"]) == pytest.approx(parameters, rel=0.025)


@pytest.mark.parametrize(("depth", "parameters"), [(18, 11_689_512), (50, 25_557_032)])
def test_imagenet_resnets_have_torchvisions_sizes(depth, parameters):
    _, variables = build((224, 224, 3), 1000, name="resnet", depth=depth)
    assert count(jax.eval_shape(variables)["params"]) == parameters


@pytest.mark.parametrize(
    ("model", "ungrouped"),
    [
        ({"name": "cnn", "channels": (8, 8, 12)}, {"Conv_0"}),
        ({"name": "resnet", "depth": 8}, {"Conv_0"}),
        ({"name": "resnet", "depth": 50}, {"Conv_0", "1x1"}),
    ],
)
def test_groups_are_of_all_convolutions_of_3_x_3_but_the_first(model, ungrouped):
    kernels = []
    for groups in (1, 4):
        params = jax.eval_shape(build(conv_groups=groups, **model)[1])["params"]
        flat = flatten_dict(params, sep="/")
        kernels.append({path: leaf.shape for path, leaf in flat.items() if leaf.ndim == 4})
    for path, shape in kernels[0].items():
        kept = path.split("/")[0] in ungrouped or ("1x1" in ungrouped and shape[0] == 1)
        assert kernels[1][path] == (*shape[:2], shape[2] // (1 if kept else 4), shape[3])


def test_mlp_by_hand():
    _, variables = build((28, 28, 1), name="mlp", hidden=(512, 512))
    hidden = 784 * 512 + 512 * 512 + 4 * 512  # batch norm's scale and bias, no other
    assert count(jax.eval_shape(variables)["params"]) == hidden + 512 * 10 + 10


@pytest.mark.parametrize(
    ("shape", "model", "message"),
    [
        ((2,), {"name": "cnn"}, "takes images"),
        ((3, 3, 1), {"name": "cnn"}, "images of 1 x 1 pixels are left to be pooled"),
        (
            (3, 3, 1),
            {"name": "cnn", "pooling": "fractional_max_pool", "channels": (4, 4, 4)},
            "images of 1 x 1 pixels are left to be pooled",
        ),
        ((2,), {"name": "resnet"}, "takes images"),
        ((8, 8, 1), {"name": "resnet", "depth": 21}, "config.model.depth = 21"),
        (
            (8, 8, 1),
            {"name": "cnn", "conv_groups": 12},
            "conv_groups = 12 .* 32 input and 64 output .*such as 4",
        ),
        ((8, 8, 1), {"name": "reznet"}, "did you mean 'resnet'"),
        ((8, 8, 1), {"activation": "rellu"}, "did you mean 'relu'"),
    ],
)
def test_what_does_not_fit_is_named(shape, model, message):
    with pytest.raises(UserError, match=message):
        build(shape, **model)[1]()


def test_spatial_dropout_takes_whole_channels_from_a_cnn():
    model, init = build((8, 8, 1), name="cnn", dropout="spatial_dropout", dropout_rate=0.5)
    variables = init()
    x = jnp.ones((4, 8, 8, 1))
    _, found = model.apply(
        variables, x, train=True, rngs={"dropout": jax.random.key(0)},
        capture_intermediates=lambda module, _: type(module).__name__ == "Noise",
        mutable=["batch_stats", "intermediates"],
    )  # fmt: skip
    (images,) = jax.tree.leaves(found["intermediates"])
    assert images.ndim == 4
    dropped = (np.asarray(images) == 0).all((1, 2))
    assert dropped.mean() > 0.2 and not dropped.all()
