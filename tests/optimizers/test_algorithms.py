"""Every update rule: twenty steps against a transcription of its paper in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research import optimizers
from research.config import default_config
from research.errors import UserError
from research.names import public_functions
from research.optimizers import algorithms
from research.training import hyperparameters

STEPS, RATE = 20, 0.05
M, R, B1, B2, EPSILON = 0.85, 0.8, 0.8, 0.95, 1e-4
RANDOM = np.random.default_rng(0)
PARAMS = {
    "Conv_0": {"kernel": RANDOM.normal(size=(3, 3, 2, 4))},
    "Dense_0": {"kernel": RANDOM.normal(size=(5, 3)), "bias": RANDOM.normal(size=3)},
    "head": {"kernel": RANDOM.normal(size=(3, 2)), "bias": np.zeros(2)},
}
CURVATURE = jax.tree.map(lambda w: RANDOM.uniform(0.1, 3, w.shape), PARAMS)


def gradient(w, curvature, step, module):
    """Of a quadratic whose centre moves: curved differently in each direction."""
    return curvature * (w - 0.3 * module.sin(step + w * 0))


def config_of(name, schedule="constant", warmup="0 steps", **changes):
    config = default_config()
    config.duration = f"{STEPS} steps"
    config.schedule.update({"name": schedule, "warmup": warmup})
    config.optimizer.update(
        {"name": name, "learning_rate": RATE, "momentum": M, "rms_decay": R}
        | {"beta1": B1, "beta2": B2, "epsilon": EPSILON}
        | changes
    )
    return config, hyperparameters.from_config(config, 1000)


def ours(name, *schedule, **changes):
    config, numbers = config_of(name, *schedule, **changes)

    def train(numbers):
        params = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), PARAMS)
        state = optimizers.build(config, numbers, 0).init(params)

        def one(carry, step):
            params, state = carry
            gradients = jax.tree.map(
                lambda w, c: gradient(w, c.astype(np.float32), step, jnp), params, CURVATURE
            )
            updates, state = optimizers.build(config, numbers, step).update(
                gradients, state, params
            )
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(one, (params, state), jnp.arange(STEPS))[0][0]

    return train, numbers


# Rules: (memory, g, t, w, place) -> (memory, direction); the memory starts as None.
def adam_like(second, first=None, finish=None):
    def rule(memory, g, t, w, place):
        m, v = memory or (np.zeros_like(g), np.zeros_like(g))
        m = B1 * m + (1 - B1) * g
        v = second(v, g, m)
        mean = first(m, g, t) if first else m / (1 - B1**t)
        root = np.sqrt(v / (1 - B2**t)) + EPSILON
        return (m, v), mean / root

    return rule


def squares(v, g, m):
    return B2 * v + (1 - B2) * g**2


def heavy_ball(inner=lambda memory, g, t, w, place: (None, g), look_ahead=False):
    def rule(memory, g, t, w, place):
        inside, m = memory or (None, 0.0)
        inside, g = inner(inside, g, t, w, place)
        m = M * m + g
        return (inside, m), g + M * m if look_ahead else m

    return rule


def adagrad(memory, g, t, w, place):
    s = (0.0 if memory is None else memory) + g**2
    return s, g / (np.sqrt(s) + EPSILON)


def rmsprop(memory, g, t, w, place):
    v = R * (0.0 if memory is None else memory) + (1 - R) * g**2
    return v, g / (np.sqrt(v) + EPSILON)


def rmsprop_centered(memory, g, t, w, place):
    m, v = memory or (0.0, 0.0)
    m, v = R * m + (1 - R) * g, R * v + (1 - R) * g**2
    return (m, v), g / (np.sqrt(v - m**2) + EPSILON)


def adadelta(memory, g, t, w, place):
    v, d = memory or (0.0, 0.0)
    v = R * v + (1 - R) * g**2
    direction = np.sqrt(d + EPSILON) / np.sqrt(v + EPSILON) * g
    return (v, R * d + (1 - R) * direction**2), direction


def amsgrad(memory, g, t, w, place):
    m, v, top = memory or (0.0, 0.0, 0.0)
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
    top = np.maximum(top, v)
    return (m, v, top), m / (np.sqrt(top) + EPSILON)


def adamax(memory, g, t, w, place):
    m, u = memory or (0.0, 0.0)
    m, u = B1 * m + (1 - B1) * g, np.maximum(B2 * u, np.abs(g) + EPSILON)
    return (m, u), m / (1 - B1**t) / u


def radam(memory, g, t, w, place):
    m, v = memory or (0.0, 0.0)
    m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g**2
    longest = 2 / (1 - B2) - 1
    length = longest - 2 * t * B2**t / (1 - B2**t)
    mean = m / (1 - B1**t)
    if length < 5:
        return (m, v), mean
    rectifier = np.sqrt(
        (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
    )
    return (m, v), rectifier * mean / (np.sqrt(v / (1 - B2**t)) + EPSILON)


def nesterov_mean(m, g, t):
    return B1 * m / (1 - B1 ** (t + 1)) + (1 - B1) * g / (1 - B1**t)


def lion(memory, g, t, w, place):
    m = 0.0 if memory is None else memory
    return B2 * m + (1 - B2) * g, np.sign(B1 * m + (1 - B1) * g)


def own_length(direction, w, place):
    if not place.endswith("kernel"):
        return direction
    return direction * np.linalg.norm(w) / np.linalg.norm(direction)


def lars(memory, g, t, w, place, beta=0.1, rate=1.0):
    """Algorithm 1; at a constant rate it does not matter where that is."""
    v = M * (0.0 if memory is None else memory)
    if not place.endswith("kernel"):
        return (v + rate * g,) * 2
    ratio = np.linalg.norm(w) / (np.linalg.norm(g) + beta * np.linalg.norm(w))
    return (v + rate * ratio * (g + beta * w),) * 2


def lamb(memory, g, t, w, place):
    memory, direction = adam_like(squares)(memory, g, t, w, place)
    if place.endswith("kernel"):
        direction = direction + 0.1 * w
    return memory, own_length(direction, w, place)


def adafactor(memory, g, t, w, place):
    """Nothing here has two sides of 128: not factored."""
    kept = 1 - t**-0.8
    v = kept * (0.0 if memory is None else memory) + (1 - kept) * (g**2 + 1e-30)
    direction = g / np.sqrt(v)
    direction = direction / max(1.0, np.sqrt(np.mean(direction**2)))
    return v, direction * max(1e-3, np.sqrt(np.mean(w**2)))


def muon(memory, g, t, w, place):
    if place.startswith("head") or not place.endswith("kernel"):
        return adam_like(squares)(memory, g, t, w, place)
    m = M * (0.0 if memory is None else memory) + (1 - M) * g
    x = M * m / (1 - M ** (t + 1)) + (1 - M) * g / (1 - M**t)
    x = x.reshape(-1, x.shape[-1])
    turned = x.shape[0] > x.shape[1]
    x = x.T if turned else x
    x = x / (np.linalg.norm(x) + 1e-8)
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
    factor = np.sqrt(max(1.0, g.shape[-1] / (g.size / g.shape[-1])))
    return m, factor * (x.T if turned else x).reshape(g.shape)


# L-BFGS wants the loss itself: see test_line_search.py.
NAMES = [name for name in public_functions(algorithms) if name != "lbfgs"]
RULES = {
    "sgd": lambda memory, g, t, w, place: (None, g),
    "momentum": heavy_ball(),
    "nesterov": heavy_ball(look_ahead=True),
    "adagrad": adagrad,
    "rmsprop": rmsprop,
    "rmsprop_centered": rmsprop_centered,
    "rmsprop_momentum": heavy_ball(rmsprop),
    "adadelta": adadelta,
    "adam": adam_like(squares),
    "amsgrad": amsgrad,
    "adamax": adamax,
    "nadam": adam_like(squares, nesterov_mean),
    "radam": radam,
    "adabelief": adam_like(lambda v, g, m: B2 * v + (1 - B2) * (g - m) ** 2 + EPSILON),
    "yogi": adam_like(lambda v, g, m: v - (1 - B2) * np.sign(v - g**2) * g**2),
    "lion": lion,
    "lars": lars,
    "lamb": lamb,
    "adafactor": adafactor,
    "muon": muon,
}
OWN_DECAY = ("lars", "lamb")


def reference(name, decay):
    found = {}
    for module, leaves in PARAMS.items():
        for leaf, w in leaves.items():
            place, memory = f"{module}/{leaf}", None
            for step in range(STEPS):
                g = gradient(w, CURVATURE[module][leaf], step, np)
                memory, direction = RULES[name](memory, g, step + 1, w, place)
                if decay and leaf == "kernel" and name not in OWN_DECAY:
                    direction = direction + decay * w
                w = w - RATE * direction
            found[place] = w
    return found


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_twenty_steps_are_the_papers(name, decay):
    decay = 0.1 if name in OWN_DECAY else decay
    train, numbers = ours(name, weight_decay=decay)
    got = jax.jit(train)(numbers)
    for place, want in reference(name, decay).items():
        module, leaf = place.split("/")
        np.testing.assert_allclose(
            got[module][leaf], want, rtol=5e-4, atol=5e-4, err_msg=f"{name} {place}"
        )
        if place == "Dense_0/kernel":  # it went somewhere
            assert np.abs(want - PARAMS[module][leaf]).max() > 1e-2


@pytest.mark.parametrize("warmup", ["0 steps", "5 steps"])
def test_lars_has_the_rate_inside_its_momentum(warmup):
    """Algorithm 1 of the paper, with its own schedule, gamma_0 (1 - t / T)^2."""
    train, numbers = ours("lars", "polynomial", warmup, weight_decay=0.3)
    got = jax.jit(train)(numbers)
    rise = int(warmup.split()[0])
    for module, leaves in PARAMS.items():
        for leaf, w in leaves.items():
            velocity, place = None, f"{module}/{leaf}"
            for step in range(STEPS):
                g = gradient(w, CURVATURE[module][leaf], step, np)
                rate = (step + 1) / rise if step < rise else 1.0
                rate *= RATE * (1 - max(0, step - rise) / (STEPS - rise)) ** 2
                velocity, v = lars(velocity, g, step + 1, w, place, beta=0.3, rate=rate)
                w = w - v
            np.testing.assert_allclose(got[module][leaf], w, rtol=1e-4, atol=1e-5, err_msg=place)


def test_lars_follows_a_plateau_from_inside():
    """The count of cuts is in the optimizer's state, wherever the rate is."""
    config, numbers = config_of("lars")
    config.schedule.name = "plateau"
    numbers["schedule"] |= {"window": 1.0, "patience": 1.0, "factor": 0.5}
    params = {"b": {"bias": jnp.zeros(1)}}
    state = optimizers.build(config, numbers, 0).init(params)
    velocity = 0.0
    for step, value in enumerate([1.0, 1.0, 1.0]):  # falls, then two cuts
        chain = optimizers.build(config, numbers, step)
        update, state = chain.update({"b": {"bias": jnp.ones(1)}}, state, params, value=value)
        velocity = M * velocity + RATE * 0.5**step
        np.testing.assert_allclose(update["b"]["bias"], -velocity, rtol=1e-6)
        rate = optimizers.learning_rate(config, numbers, step, state)
        assert float(rate) == pytest.approx(RATE * 0.5**step)


@pytest.mark.parametrize("name", NAMES)
def test_numbers_are_traced_lane_by_lane(name):
    train, numbers = ours(name)
    rates = jnp.asarray([0.01, 0.05])

    def lane(rate):
        traced = numbers["optimizer"] | {
            "learning_rate": rate,
            "beta1": rate * 10,
            "momentum": rate,
        }
        return train(numbers | {"optimizer": traced})

    lanes = jax.jit(jax.vmap(lane))(rates)
    for number, rate in enumerate(rates):
        want = jax.jit(lane)(rate)
        jax.tree.map(
            lambda many, one, number=number: np.testing.assert_allclose(
                many[number], one, rtol=2e-3, atol=1e-4
            ),
            lanes,
            want,
        )


@pytest.mark.parametrize(
    ("name", "torch_name", "arguments"),
    [
        ("sgd", "SGD", {}),
        ("momentum", "SGD", {"momentum": M}),
        ("nesterov", "SGD", {"momentum": M, "nesterov": True}),
        ("rmsprop", "RMSprop", {"alpha": R, "eps": EPSILON}),
        ("rmsprop_centered", "RMSprop", {"alpha": R, "eps": EPSILON, "centered": True}),
        ("rmsprop_momentum", "RMSprop", {"alpha": R, "eps": EPSILON, "momentum": M}),
        ("adadelta", "Adadelta", {"rho": R, "eps": EPSILON}),
        ("adam", "Adam", {"betas": (B1, B2), "eps": EPSILON}),
        ("adamax", "Adamax", {"betas": (B1, B2), "eps": EPSILON}),
        ("radam", "RAdam", {"betas": (B1, B2), "eps": EPSILON}),
    ],
)
def test_twenty_steps_are_pytorchs(name, torch_name, arguments):
    torch = pytest.importorskip("torch")
    train, numbers = ours(name)
    got = jax.jit(train)(numbers)
    for module, leaves in PARAMS.items():
        for leaf, start in leaves.items():
            w = torch.nn.Parameter(torch.tensor(start))
            optimizer = getattr(torch.optim, torch_name)([w], lr=RATE, **arguments)
            for step in range(STEPS):
                curvature = CURVATURE[module][leaf]
                w.grad = torch.tensor(gradient(w.detach().numpy(), curvature, step, np))
                optimizer.step()
            np.testing.assert_allclose(got[module][leaf], w.detach(), rtol=1e-3, atol=1e-3)


def test_a_constant_gradient_has_no_deviation():
    """Where rounding would make the variance negative and its root NaN."""
    rule = algorithms.rmsprop_centered(rms_decay=0.9, epsilon=1e-3)
    g = jnp.float32(7.3)
    state = rule.init(g)
    for _ in range(300):
        direction, state = rule.update(g, state)
        assert np.isfinite(direction)


@pytest.mark.parametrize(
    ("changes", "bound"),
    [
        ({"clip_value": 0.3}, lambda g, w: np.clip(g, -0.3, 0.3)),
        ({"clip_norm": 0.3}, None),
        (
            {"clip_adaptive": 0.1},
            lambda g, w: (
                g
                * np.minimum(
                    1,
                    0.1
                    * np.maximum(np.linalg.norm(w, axis=0), 1e-3)
                    / np.maximum(np.linalg.norm(g, axis=0), 1e-6),
                )
            ),
        ),
    ],
)
def test_clipping(changes, bound):
    config, numbers = config_of("sgd", learning_rate=1.0, **changes)
    params = {"Dense_0": {"kernel": jnp.asarray(RANDOM.normal(size=(6, 4)), jnp.float32)}}
    gradients = jax.tree.map(lambda w: jnp.sin(3 * w), params)
    chain = optimizers.build(config, numbers, 0)
    updates, _ = chain.update(gradients, chain.init(params), params)
    g = np.asarray(gradients["Dense_0"]["kernel"], np.float64)
    w = np.asarray(params["Dense_0"]["kernel"], np.float64)
    want = bound(g, w) if bound else g * min(1, 0.3 / np.linalg.norm(g))
    np.testing.assert_allclose(-updates["Dense_0"]["kernel"], want, rtol=1e-5, atol=1e-7)
    assert not np.allclose(want, g)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("share", [0.5, 0.8])
def test_lookahead_is_its_algorithm_1(name, share):
    train, numbers = ours(name, lookahead_steps=6, lookahead_share=share, weight_decay=0.1)
    got = jax.jit(train)(numbers)
    for module, leaves in PARAMS.items():
        for leaf, fast in leaves.items():
            slow, memory = fast, None
            for step in range(STEPS):
                g = gradient(fast, CURVATURE[module][leaf], step, np)
                memory, direction = RULES[name](memory, g, step + 1, fast, f"{module}/{leaf}")
                if leaf == "kernel":
                    direction = direction + 0.1 * fast
                fast = fast - RATE * direction
                if (step + 1) % 6 == 0:
                    slow = slow + share * (fast - slow)
                    fast = slow
            np.testing.assert_allclose(got[module][leaf], fast, rtol=1e-4, atol=1e-5)


def test_lookahead_in_lanes_of_other_shares():
    train, numbers = ours("adam", lookahead_steps=5)

    def lane(share):
        return train(numbers | {"optimizer": numbers["optimizer"] | {"lookahead_share": share}})

    shares = jnp.asarray([0.2, 0.9])
    lanes = jax.jit(jax.vmap(lane))(shares)
    alone = [jax.jit(lane)(share) for share in shares]
    for number, want in enumerate(alone):
        jax.tree.map(
            lambda many, one, number=number: np.testing.assert_allclose(
                many[number], one, rtol=1e-4, atol=1e-5
            ),
            lanes,
            want,
        )
    assert not np.allclose(*(lane["head"]["kernel"] for lane in alone), atol=1e-3)


@pytest.mark.parametrize("name", ["sgd", "lars", "lamb"])
def test_decay_goes_where_patterns_say(name):
    """Also inside rules that decay themselves; zero gradients leave nothing but the decay."""
    pairs = ((".*/bias", 2.0), ("Conv_0/.*", 0.5), (".*", 0.0))
    config, numbers = config_of(name, weight_decay=0.1, decay_multipliers=pairs)
    params = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32) + 1, PARAMS)
    chain = optimizers.build(config, numbers, 0)
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = chain.update(zeros, chain.init(params), params)
    factors = {
        "Conv_0": {"kernel": 0.5},
        "Dense_0": {"kernel": 0.0, "bias": 2.0},
        "head": {"kernel": 0.0, "bias": 2.0},
    }
    for module, leaves in factors.items():
        for leaf, factor in leaves.items():
            want = 0.1 * factor * np.asarray(params[module][leaf], np.float64)
            if name != "sgd" and leaf == "kernel" and factor:
                want *= np.linalg.norm(params[module][leaf]) / np.linalg.norm(want)
            np.testing.assert_allclose(updates[module][leaf], -RATE * want, rtol=1e-5, atol=1e-9)


def test_decay_must_cover_every_parameter():
    config, numbers = config_of("sgd", weight_decay=0.1, decay_multipliers=((".*/kernel", 1.0),))
    chain = optimizers.build(config, numbers, 0)
    with pytest.raises(UserError, match="decay_multipliers: no pattern matches Dense_0/bias, head"):
        chain.update(PARAMS, chain.init(PARAMS), PARAMS)
