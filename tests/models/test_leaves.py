"""What each parameter is, in our models and in others', and that every rule asks for it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from research import models, optimizers
from research.config import default_config
from research.errors import UserError
from research.models import leaves
from research.models.batch_norm import BatchNorm
from research.models.leaves import Leaf
from research.optimizers.algorithms import muon
from research.optimizers.clipping import clipped
from research.optimizers.constraints import max_norm
from research.optimizers.decay import decayed
from research.optimizers.masks import leaves_by_path
from research.optimizers.multipliers import frozen_statistics
from research.training import hyperparameters, penalty, setup
from research.training.recalibration import recalibrate

RANDOM = np.random.default_rng(0)


def found(params) -> dict[str, Leaf]:
    return leaves_by_path(leaves.of(params))


class Mixing(nn.Module):
    """Flax's attention, an embedding, and two parameters of the model's own."""

    use_bias: bool = True
    leaves = {"mixing": Leaf("kernel", fan_in=(1,)), "kernel": Leaf("other")}

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(7, 8)(tokens)
        x = nn.MultiHeadDotProductAttention(2, use_bias=self.use_bias)(x)
        mixing = self.param("mixing", nn.initializers.normal(), (3, 8, 8))
        table = self.param("kernel", nn.initializers.normal(), (8,))
        x = jnp.einsum("btd,hde->bte", x, mixing) + table
        return nn.Dense(5, name="head")(nn.LayerNorm(name="head_norm")(x))


def mixing(use_bias=True):
    module = Mixing(use_bias)
    return module, module.init(jax.random.key(0), jnp.zeros((1, 4), jnp.int32))["params"]


@pytest.mark.parametrize("use_bias", [True, False])
def test_flaxs_attention_has_the_axes_that_it_sums_over(use_bias):
    module, params = mixing(use_bias)
    with leaves.stated_by(module):
        told = found(params)
    attention = "MultiHeadDotProductAttention_0"
    for name in ("query", "key", "value"):  # (8 inputs, 2 heads, 4 features)
        assert told[f"{attention}/{name}/kernel"].fan_in == (0,)
    assert told[f"{attention}/out/kernel"].fan_in == (0, 1)  # (2 heads, 4 features, 8 outputs)
    assert told["head/kernel"] == Leaf("kernel", (0,), 0, head=True)
    assert told["head_norm/scale"] == Leaf("scale")  # as near to the outputs as the head
    assert told["Embed_0/embedding"].role == "embedding"
    assert told["mixing"].fan_in == (1,) and told["kernel"].role == "other"
    assert found(params)["mixing"].role == "other"  # outside


def test_what_a_model_states_must_fit_its_parameters():
    _, params = mixing()
    for stated, message in (
        ({"mixin": Leaf("kernel")}, "did you mean 'mixing'"),
        ({"mixing": Leaf("kernel", fan_in=(3,))}, r"fan_in = \(3,\) of mixing .*\(0, 1, 2\)"),
        ({"(": Leaf("kernel")}, "no regular expression"),
    ):
        module = type("Stating", (nn.Module,), {"leaves": stated})()
        with leaves.stated_by(module), pytest.raises(UserError, match=message):
            leaves.of(params)
    with pytest.raises(UserError, match="did you mean 'kernel'"):
        Leaf("kernal")
    leaves.of(params)  # an error leaves nothing behind


@pytest.mark.parametrize("name", models.names())
def test_every_parameter_of_our_models_has_a_role(name):
    config = default_config()
    config.model.name, config.model.activation = name, "prelu"
    module = models.build(config, hyperparameters.from_config(config, 1000), 10)
    params = jax.eval_shape(
        lambda: module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)), train=False)
    )["params"]
    told = found(params)
    others = {path.rpartition("/")[2] for path, leaf in told.items() if leaf.role == "other"}
    assert others == {"slope"}
    assert [path for path, leaf in told.items() if leaf.head] == ["head/bias", "head/kernel"]
    assert told["head/kernel"].depth == 0
    assert sorted({leaf.depth for leaf in told.values()}) == list(
        range(1 + max(leaf.depth for leaf in told.values()))
    )
    shapes = leaves_by_path(params)
    for path, leaf in told.items():
        assert bool(leaf.fan_in) == (leaf.role == "kernel")
        if leaf.fan_in:
            assert leaf.fan_out(len(shapes[path].shape)) == (len(shapes[path].shape) - 1,)


def test_names_that_end_in_a_word_have_its_role_and_blocks_come_in_order_wherever_they_are():
    told = found({"encoder": {"block_10": {"gate_kernel": np.ones((3, 2))},
                              "block_2": {"gate_kernel": np.ones((3, 2)), "slope": np.ones(2)}},
                  "position_embedding": np.ones((4, 3)), "Dense_0": {"kernel": np.ones((3, 3))},
                  "head": {"kernel": np.ones((2, 2))}})  # fmt: skip
    assert {path: leaf.depth for path, leaf in told.items()} == {
        "Dense_0/kernel": 3,
        "position_embedding": 3,
        "encoder/block_2/gate_kernel": 2,
        "encoder/block_2/slope": 2,
        "encoder/block_10/gate_kernel": 1,
        "head/kernel": 0,
    }
    assert told["encoder/block_2/gate_kernel"].fan_in == (0,)
    assert told["encoder/block_2/slope"].role == "other"


HEADS = {
    "query": {"kernel": RANDOM.normal(size=(6, 2, 3)), "bias": RANDOM.normal(size=(2, 3))},
    "out": {"kernel": RANDOM.normal(size=(2, 3, 5)), "bias": RANDOM.normal(size=5)},
}
MATRICES = {
    "query": {"kernel": HEADS["query"]["kernel"].reshape(6, 6), "bias": np.zeros(6)},
    "out": {"kernel": HEADS["out"]["kernel"].reshape(6, 5), "bias": np.zeros(5)},
}


def adaptive():
    config = default_config()
    config.optimizer.clip_adaptive = 0.1
    return clipped(config, {"clip_adaptive": 0.1})


RULES = {
    "max_norm": lambda params: max_norm(params, 1.5),
    "muon": lambda params: updated(
        muon(momentum=0.9, beta1=0.9, beta2=0.999, epsilon=1e-8), params
    ),
    "clip_adaptive": lambda params: updated(adaptive(), params),
}


def updated(rule, params):
    gradients = jax.tree.map(lambda p: jnp.sin(9 * p), params)
    return rule.update(gradients, rule.init(params), params)[0]


@pytest.mark.parametrize("name", RULES)
def test_a_rule_treats_a_kernel_of_heads_as_the_matrix_that_it_is(name):
    heads, matrices = (RULES[name](jax.tree.map(jnp.float32, tree)) for tree in (HEADS, MATRICES))
    for part in HEADS:
        got = np.asarray(heads[part]["kernel"]).reshape(matrices[part]["kernel"].shape)
        np.testing.assert_allclose(got, matrices[part]["kernel"], rtol=1e-5, atol=1e-6)
        assert not np.allclose(got, MATRICES[part]["kernel"], rtol=1e-2)


def test_what_is_no_kernel_is_neither_decayed_nor_shortened_nor_penalised():
    params = {"token": jnp.full(3, 9.0), "Embed_0": {"embedding": jnp.full((4, 3), 9.0)}}
    zeros = optax.tree.zeros_like(params)
    decay, _ = decayed(0.1).update(zeros, optax.EmptyState(), params)
    jax.tree.map(np.testing.assert_array_equal, decay, zeros)
    jax.tree.map(np.testing.assert_array_equal, max_norm(params, 1.0), params)
    config = default_config()
    config.loss.l2 = 1.0
    assert penalty.penalty(config, hyperparameters.from_config(config, 1000), params) == 0


def test_an_optimizer_knows_what_the_model_states():
    module, params = mixing()
    config = default_config()
    config.optimizer.name, config.optimizer.weight_decay = "muon", 0.1
    optimizer = optimizers.build(config, hyperparameters.from_config(config, 1000), 0)
    with leaves.stated_by(module):
        state = optimizer.init(params)
        updates, _ = optimizer.update(params, state, params)
    (momentum,) = [leaf for path, leaf in leaves_by_path(state).items()
                   if path.endswith("mixing") and "muon" in path]  # fmt: skip
    assert momentum.shape == (3, 8, 8) and np.isfinite(updates["mixing"]).all()


class Counting(nn.Module):
    """A normaliser of a user's own, beside ours: its statistics are no means and variances."""

    @nn.compact
    def __call__(self, x, train: bool):
        seen = self.variable("batch_stats", "seen", lambda: jnp.int32(0))
        mean = self.variable("batch_stats", "mean", lambda: jnp.full(4, 5.0))
        if train and not self.is_initializing():
            seen.value, mean.value = seen.value + 1, mean.value + 1
        x = BatchNorm(decay=0.0)(nn.Dense(4)(x) + mean.value, train)
        return nn.Dense(2, name="head")(nn.BatchNorm(not train)(x))


def test_recalibration_recomputes_what_our_batch_norm_owns_and_keeps_the_rest(monkeypatch):
    monkeypatch.setattr(models, "build", lambda *_, **__: Counting())
    config = default_config()
    config.data.name = "moons"
    config.model.fit_weights = "none"
    config.transfer.freeze = (("BatchNorm_0/.*", "100 percent"),)
    run = setup.from_config(config)
    state = run.init()
    state = recalibrate(run.config, run.task, state, run.train)
    kept = state.batch_stats
    assert kept["seen"] == 0 and kept["seen"].dtype == jnp.int32
    np.testing.assert_array_equal(kept["mean"], 5.0)
    np.testing.assert_array_equal(kept["BatchNorm_1"]["mean"], 0.0)  # flax's own
    assert np.abs(kept["BatchNorm_0"]["mean"]).max() > 1
    trees = state.params, state.batch_stats
    assert frozen_statistics(config, state.hyperparameters, *trees, 0) == {"BatchNorm_0": True}
