"""Rules beside their papers over many steps; where a variant is kept, how far from it, as is told.

The transcriptions are of the papers, in float64.
"""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import KEYS, default_config, flatten
from research.models import activations
from research.names import numbers_of
from research.optimizers import algorithms, schedules

B1, B2, EPSILON, M = 0.9, 0.999, 1e-8, 0.9  # the defaults
CONSTANT = np.ones((1000, 1))
NOISE = np.random.default_rng(0).normal(size=(100, 16, 32))


def directions(name, gradients, params=None, **numbers):
    """Ours, of each step: float64; at the default numbers unless others are given."""
    defaults = {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8} | numbers
    taken = numbers_of(getattr(algorithms, name))
    rule = getattr(algorithms, name)(**{key: defaults[key] for key in taken})

    def one(state, g):
        direction, state = rule.update(g, state, params)
        return state, direction

    gradients = jax.tree.map(lambda g: jnp.asarray(g, jnp.float32), gradients)
    first = jax.tree.map(lambda g: g[0], gradients)
    steps = jax.jit(lambda: jax.lax.scan(one, rule.init(first), gradients)[1])()
    return jax.tree.map(lambda d: np.asarray(d, np.float64), steps)


def test_amsgrad_remembers_the_largest_raw_moment():
    """Reddi et al., algorithm 2: .1 / sqrt((1 - beta2) 10^2) once m has forgotten the first."""
    gradients = np.full(1000, 0.1)
    gradients[0] = 10
    assert directions("amsgrad", gradients)[-1] == pytest.approx(0.1 / np.sqrt(0.1), rel=1e-4)


def test_adabelief_adds_epsilon_at_each_step():
    """So s ends at epsilon / (1 - beta2) where all gradients are the same."""
    found = directions("adabelief", np.ones(40_000))[-1]
    assert found == pytest.approx(1 / np.sqrt(1e-8 / (1 - 0.999)), rel=1e-3)  # 316


def test_adagrad_adds_epsilon_to_the_root():
    assert directions("adagrad", np.full(1, 1e-6))[0] == pytest.approx(1 / 1.01, rel=1e-5)
    assert (directions("adagrad", np.zeros(3), epsilon=0.0) == 0).all()


def adams(gradients, beta1=lambda t: B1, second=lambda v, g: B2 * v + (1 - B2) * g**2):
    """t, g, m and v of each step, in float64."""
    m = v = np.zeros_like(gradients[0])
    for t, g in enumerate(gradients, 1):
        m, v = beta1(t) * m + (1 - beta1(t)) * g, second(v, g)
        yield t, g, m, v


def dozat(gradients):
    """Nadam, algorithm 2, with its schedule of the momentum."""
    mu = lambda t: B1 * (1 - 0.5 * 0.96 ** (t / 250))  # noqa: E731
    found, product = [], 1.0
    for t, g, m, v in adams(gradients, mu):
        product *= mu(t)
        mean = mu(t + 1) * m / (1 - product * mu(t + 1)) + (1 - mu(t)) * g / (1 - product)
        found.append(mean / (np.sqrt(B2 * v / (1 - B2**t)) + EPSILON))
    return np.array(found)


def liu(gradients):
    """RAdam, algorithm 2."""
    found, longest = [], 2 / (1 - B2) - 1
    for t, _, m, v in adams(gradients):
        mean, length = m / (1 - B1**t), longest - 2 * t * B2**t / (1 - B2**t)
        if length > 4:
            top = (length - 4) * (length - 2) * longest
            rectifier = np.sqrt(top / ((longest - 4) * (longest - 2) * length))
            mean = rectifier * mean * np.sqrt((1 - B2**t) / v)
        found.append(mean)
    return np.array(found)


def zaheer(gradients):
    """Yogi, algorithm 2."""
    second = lambda v, g: v - (1 - B2) * np.sign(v - g**2) * g**2  # noqa: E731
    steps = adams(gradients, second=second)
    return np.array([m / (np.sqrt(v) + EPSILON) for _, _, m, v in steps])


def jordan(gradients):
    """Muon's nesterov momentum, made orthogonal."""
    found, m = [], 0.0
    for g in gradients:
        m = M * m + g
        x = g + M * m
        x = x / np.linalg.norm(x)
        for _ in range(5):
            a = x @ x.T
            x = 3.4445 * x + (-4.775 * a + 2.0315 * a @ a) @ x
        found.append(x)
    return np.array(found)


def rows_and_columns(gradients):
    """Adafactor of a matrix, algorithm 4, for weights of RMS 1."""
    found, rows, columns = [], 0.0, 0.0
    for t, g in enumerate(gradients, 1):
        kept = 1 - t**-0.8
        rows = kept * rows + (1 - kept) * (g**2).mean(1)
        columns = kept * columns + (1 - kept) * (g**2).mean(0)
        u = g / np.sqrt(np.outer(rows, columns) / rows.mean())
        found.append(u / max(1.0, np.sqrt(np.mean(u**2))))
    return np.array(found)


def test_adafactor_factors_large_matrices():
    gradients = np.random.default_rng(1).normal(size=(4, 128, 130))
    found = directions("adafactor", gradients, jnp.ones((128, 130)))
    np.testing.assert_allclose(found, rows_and_columns(gradients), rtol=1e-4, atol=1e-5)


def longer(ours, theirs, step):
    return np.linalg.norm(ours[step - 1]) / np.linalg.norm(theirs[step - 1])


def apart(ours, theirs, step):
    return np.linalg.norm(ours[step - 1] - theirs[step - 1]) / np.linalg.norm(theirs[step - 1])


def after_a_cut():
    """The rate of the last step is a tenth of those before."""
    ours, theirs = 0.1 * directions("momentum", CONSTANT, momentum=M)[-1], 0.0
    for step in range(1000):
        theirs = M * theirs + (0.1 if step == 999 else 1.0)
    return [f"{(theirs / ours).item():.1f} times"]


def graves():
    """Epsilon inside the root; gradients of mean 0."""
    found = []
    for deviation in (1e-3, 1e-5):
        gradients, m, v = deviation * np.resize([1.0, -1.0], 1000), 0.0, 0.0
        for g in gradients:
            m, v = 0.9 * m + 0.1 * g, 0.9 * v + 0.1 * g**2
        ours = directions("rmsprop_centered", gradients, rms_decay=0.9)[-1]
        found.append(ours * np.sqrt(v - m**2 + EPSILON) / g)
    return [f"{found[0] - 1:.1%} longer".replace("%", " %"), f"{found[1]:.1f} times"]


def first_of_amsgrad():
    ours, adam = (directions(name, CONSTANT)[:, 0] for name in ("amsgrad", "adam"))
    ratio = ours / adam
    assert ratio.argmax() == 11
    return [f"is {ratio[0]:.2f}", f"12th {ratio[11]:.2f}", f"1000th {ratio[-1]:.2f}"]


def least_of_adabelief():
    return [f"that is {np.sqrt(1e-8 / 0.001):.5f}", f"above {np.sqrt(1e-16 / (1 - B2)):.3g}"]


def of_nadam():
    ours, theirs = directions("nadam", CONSTANT), dozat(CONSTANT)
    first, tenth = (longer(ours, theirs, step) - 1 for step in (1, 10))
    noise = longer(directions("nadam", NOISE), dozat(NOISE), 100)
    return [
        f"{first:.1%} longer and the tenth {tenth:.1%}".replace("%", " %"),
        f"{noise:.2f} times",
    ]


def of_radam():
    ours, theirs = directions("radam", CONSTANT), liu(CONSTANT)
    np.testing.assert_allclose(np.delete(ours, 4), np.delete(theirs, 4), rtol=1e-2)
    return [f"{longer(ours, theirs, 5):.1f} times"]


def of_yogi():
    ours, theirs = directions("yogi", CONSTANT), zaheer(CONSTANT)
    first, tenth, last = (longer(ours, theirs, step) for step in (1, 10, 1000))
    return [f"is {first:.3f}, the tenth {tenth:.3f} and the 1000th {last:.3f}"]


def of_adafactor():
    noise = np.random.default_rng(0).normal(size=(100, 64, 64))
    ours, theirs = directions("adafactor", noise, jnp.ones((64, 64))), rows_and_columns(noise)
    return [f"{apart(ours, theirs, step):.0%} ".replace("%", " %") for step in (1, 100)]


def of_muon():
    params = {"Dense_0": {"kernel": jnp.zeros((16, 32))}}
    gradients = {"Dense_0": {"kernel": NOISE}}
    ours = directions("muon", gradients, params, momentum=M)["Dense_0"]["kernel"]
    ours, theirs = ours / np.sqrt(2), jordan(NOISE)
    assert apart(ours, theirs, 1) < 1e-3
    return [f"{apart(ours, theirs, step):.1%}".replace("%", " %") for step in (2, 10)]


STEPS = np.arange(1000)
PROGRESS = jnp.asarray(STEPS / 1000, jnp.float32)


def of_stable_decay():
    x = np.linspace(0, 1, 1001)
    line = np.asarray(schedules.stable_decay(x, 0, final=0.0, decay_share=1.0))
    return [f"{(line - (1 - np.sqrt(x))).max():.2f} below"]


def of_one_cycle():
    ours = np.asarray(schedules.one_cycle(PROGRESS, 0, final=0.0, rise_share=0.3, initial=0.04))
    lines = np.interp(STEPS / 1000, [0, 0.3, 1], [0.04, 1, 0])
    cosine = lambda a, b, x: b + (a - b) / 2 * (1 + np.cos(np.pi * np.clip(x, 0, 1)))  # noqa: E731
    rising, falling = cosine(0.04, 1, STEPS / 299), cosine(1, 0, (STEPS - 299) / 700)
    pytorchs = np.where(STEPS <= 299, rising, falling)
    assert (ours.argmax(), pytorchs.argmax(), pytorchs[-1]) == (300, 299, 0)
    return [
        f"{np.abs(ours - lines).max():.3f} away",
        f"{np.abs(ours - pytorchs).max():.3f} away",
        f"{ours[-1]:.0e} above",
    ]


def of_the_last_step():
    linear = float(schedules.linear(PROGRESS[-1], 0, final=0.0))
    cosine = float(schedules.cosine(PROGRESS[-1], 0, final=0.0))
    return [f"{linear:.3f} (linear)", f"{cosine:.2g} (cosine)"]


@pytest.mark.parametrize(
    ("function", "computed"),
    [
        (algorithms.momentum, after_a_cut),
        (algorithms.rmsprop_centered, graves),
        (algorithms.amsgrad, first_of_amsgrad),
        (algorithms.adabelief, least_of_adabelief),
        (algorithms.nadam, of_nadam),
        (algorithms.radam, of_radam),
        (algorithms.yogi, of_yogi),
        (algorithms.adafactor, of_adafactor),
        (algorithms.muon, of_muon),
        (schedules.stable_decay, of_stable_decay),
        (schedules.one_cycle, of_one_cycle),
    ],
)
def test_a_variant_is_as_far_from_its_paper_as_it_says(function, computed):
    told = " ".join(inspect.getdoc(function).split())
    for words in computed():
        assert words in told


def test_the_last_step_is_as_far_from_the_end_as_the_key_says():
    for words in of_the_last_step():
        assert words in KEYS["schedule.final"].meaning


SLOPES = {  # at each kink; Maas et al. and He et al. have the slope of the left side there
    "relu": {0: 0.0},
    "relu6": {0: 0.0, 6: 0.0},
    "squared_relu": {0: 0.0},
    "leaky_relu": {0: 1.0},
    "elu": {0: 1.0},
    "selu": {0: 1.758},
    "hard_sigmoid": {-3: 0.0, 3: 0.0},
    "hard_tanh": {-1: 1.0, 1: 1.0},
    "hard_swish": {-3: 0.0, 3: 1.0},
}


@pytest.mark.parametrize("name", SLOPES)
def test_slopes_at_kinks_are_as_documented(name):
    function, config = getattr(activations, name), flatten(default_config())
    numbers = {key: config[f"model.{key}"] for key in numbers_of(function)}
    for kink, slope in SLOPES[name].items():
        found = jax.grad(lambda x: function(x, **numbers))(jnp.float32(kink))
        assert float(found) == pytest.approx(slope, abs=1e-3)
    if name == "leaky_relu":
        assert f"{1 - numbers['leaky_slope']:.2f} less" in inspect.getdoc(function)
        assert f"{1 - config['model.prelu_slope']:.2f} less" in inspect.getdoc(activations.prelu)
