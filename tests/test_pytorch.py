"""What PyTorch has too gives the same numbers: python -m pytest -m pytorch (the extra `bench`).

Optimisers are compared in tests/optimizers, whole ResNets in tests/training/test_torch_names.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from research import tasks
from research.config import default_config
from research.models import activations, normalization, pooling
from research.models.conv import conv
from research.names import bind
from research.optimizers import schedules
from research.optimizers.warmup import with_warmup
from research.training import metrics

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.pytorch
F = torch.nn.functional

NUMBERS = {"leaky_slope": 0.2, "prelu_slope": 0.3, "elu_alpha": 0.7, "batch_norm_decay": 0.9,
           "ghost_batch_size": 0, "freeze_batch_stats": False, "norm_groups": 2,
           "initial_bias": 0.0, "pooling_window": 2}  # fmt: skip
RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(1, 2, (4, 6, 5, 8)).astype(np.float32)
CLOSE = {"rtol": 2e-5, "atol": 2e-5}


class Alone(nn.Module):
    function: object

    @nn.compact
    def __call__(self, x, *arguments):
        return self.function(x, *arguments)


def ours(function, x, *arguments):
    """The values, and the gradient of a sum that weighs each of them differently."""
    module = Alone(function)
    variables = module.init(jax.random.key(0), x, *arguments)

    def weighed(x):
        y, _ = module.apply(variables, x, *arguments, mutable=["batch_stats"])
        return jnp.sum(y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)), y

    gradient, y = jax.grad(weighed, has_aux=True)(jnp.asarray(x))
    return y, gradient


def theirs(function, x, images=False):
    """The same of PyTorch, whose images have their channels first."""
    x = torch.tensor(x, requires_grad=True)
    y = function(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if images else function(x)
    weights = torch.cos(torch.arange(y.numel(), dtype=torch.float32)).reshape(y.shape)
    (y * weights).sum().backward()
    return y.detach().numpy(), x.grad.numpy()


def compare(function, torch_function, x, *arguments, images=False, **tolerance):
    got, want = ours(function, x, *arguments), theirs(torch_function, x, images)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, **CLOSE | tolerance)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("sigmoid", torch.sigmoid),
        ("tanh", torch.tanh),
        ("relu", F.relu),
        ("relu6", F.relu6),
        ("leaky_relu", lambda x: F.leaky_relu(x, 0.2)),
        ("prelu", lambda x: torch.where(x >= 0, x, 0.3 * x)),
        ("elu", lambda x: F.elu(x, 0.7)),
        ("selu", F.selu),
        ("gelu", F.gelu),
        ("gelu_tanh", lambda x: F.gelu(x, approximate="tanh")),
        ("silu", F.silu),
        ("mish", F.mish),
        ("softplus", F.softplus),
        ("hard_sigmoid", F.hardsigmoid),
        ("hard_tanh", F.hardtanh),
        ("hard_swish", F.hardswish),
    ],
)
def test_activations(name, function):
    x = np.concatenate([RANDOM.normal(0, 4, 500), [-30, 30]]).astype(np.float32)
    compare(bind(getattr(activations, name), NUMBERS, {}), function, x)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("batch_norm", lambda x: F.batch_norm(x, None, None, training=True, eps=1e-5)),
        ("layer_norm", lambda x: F.layer_norm(x.movedim(1, -1), x.shape[1:2]).movedim(-1, 1)),
        ("group_norm", lambda x: F.group_norm(x, 2, eps=1e-5)),
        ("instance_norm", lambda x: F.instance_norm(x, eps=1e-5)),
    ],
)
def test_normalisers(name, function):
    normaliser = bind(getattr(normalization, name), NUMBERS, {})
    compare(normaliser, function, IMAGES, True, 1.0, images=True, atol=1e-4)


def test_running_statistics_but_for_the_unbiased_variance():
    module = Alone(bind(normalization.batch_norm, NUMBERS, {}))
    variables = module.init(jax.random.key(0), IMAGES, True, 1.0)
    _, found = module.apply(variables, IMAGES, True, 1.0, mutable=["batch_stats"])
    mean, var = torch.zeros(8), torch.ones(8)
    F.batch_norm(torch.tensor(IMAGES).permute(0, 3, 1, 2), mean, var, training=True, momentum=0.1)
    (statistics,) = found["batch_stats"].values()
    count = IMAGES[..., 0].size
    biased = 0.9 + (var.numpy() - 0.9) * (count - 1) / count
    np.testing.assert_allclose(statistics["mean"], mean, **CLOSE)
    np.testing.assert_allclose(statistics["var"], biased, **CLOSE)


@pytest.mark.parametrize(("stride", "size"), [(1, 3), (2, 3), (2, 1), (2, 7)])
def test_convolution(stride, size):
    kernel = RANDOM.normal(0, 0.3, (size, size, 8, 5)).astype(np.float32)
    weights = torch.tensor(kernel.transpose(3, 2, 0, 1))
    compare(
        lambda x: conv(x, jnp.asarray(kernel), stride=stride, padding=size // 2),
        lambda x: F.conv2d(x, weights, stride=stride, padding=size // 2),
        IMAGES,
        images=True,
        rtol=1e-4,
        atol=1e-4,
    )


@pytest.mark.parametrize(("name", "function"), [("max_pool", "max"), ("avg_pool", "avg")])
def test_pooling(name, function):
    pool = bind(getattr(pooling, name), NUMBERS, {})
    other = getattr(F, f"{function}_pool2d")
    compare(pool, lambda x: other(x, 2), IMAGES, False, images=True)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    logits = RANDOM.normal(0, 3, (16, 10)).astype(np.float32)
    labels = RANDOM.integers(0, 10, 16)
    config = default_config()
    config.loss.label_smoothing = smoothing
    task, numbers = tasks.build(config, "0123456789"), {"loss": {"label_smoothing": smoothing}}

    def value(logits):
        targets = task.training_targets(task.targets(labels, {}), numbers)
        means = metrics.of_batch(task, logits, targets, None, {}, numbers)
        return means["loss"][0] / 16

    x = torch.tensor(logits, requires_grad=True)
    want = F.cross_entropy(x, torch.tensor(labels), label_smoothing=smoothing)
    want.backward()
    got, gradient = jax.value_and_grad(value)(jnp.asarray(logits))
    np.testing.assert_allclose(got, want.detach(), **CLOSE)
    np.testing.assert_allclose(gradient, x.grad, **CLOSE)


STEPS = 40


@pytest.mark.parametrize(
    ("name", "numbers", "scheduler"),
    [
        ("constant", {}, lambda s, o: s.ConstantLR(o, factor=1.0)),
        ("linear", {"final": 0.1}, lambda s, o: s.LinearLR(o, 1.0, 0.1, STEPS)),
        ("exponential", {"final": 0.9**STEPS}, lambda s, o: s.ExponentialLR(o, 0.9)),
        ("cosine", {"final": 0.1}, lambda s, o: s.CosineAnnealingLR(o, STEPS, 0.1)),
        ("polynomial", {"final": 0.0, "power": 2.0}, lambda s, o: s.PolynomialLR(o, STEPS, 2.0)),
        (
            "piecewise",
            {"milestones": np.array([10.0, 25.0]), "factor": 0.5},
            lambda s, o: s.MultiStepLR(o, [10, 25], 0.5),
        ),
    ],
)
def test_schedules(name, numbers, scheduler):
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], lr=1.0)
    schedule = scheduler(torch.optim.lr_scheduler, optimizer)
    chosen = bind(getattr(schedules, name), numbers, {})
    for step in range(STEPS):
        want = optimizer.param_groups[0]["lr"]
        got = with_warmup(chosen, step, jnp.float32(0), jnp.float32(STEPS))
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5, err_msg=f"step {step}")
        optimizer.step()
        schedule.step()
