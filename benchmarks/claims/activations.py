"""Section 1: activation functions."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims import measures, pictures
from benchmarks.claims.common import SEEDS, Claim, Net, parameters, percent, rates
from research.config import default_config
from research.data.feed import preprocess
from research.models import activations
from research.names import bind, public_functions
from research.reporting.plots import COLORS

TITLE = "Activation functions"
_PLAIN = {
    "model.hidden": (64, 64),
    "model.normalization": "none",
    "model.initializer": "lecun_normal",
    "model.activation_gain": True,
    "duration": "20 epochs",
}
_RATES = rates(1e-3, 3e-2, 4)


def saturation() -> Claim:
    points = jnp.array([-10.0, 0.0, 10.0])
    line = jnp.linspace(-12, 12, 24001)
    rows = []
    for name in ("sigmoid", "tanh", "relu", "leaky_relu", "elu", "softplus", "gelu"):
        function = bind(getattr(activations, name), default_config().model, {})
        slope = jax.vmap(jax.grad(function))
        rows.append([f"`{name}`", float(slope(line).max()), *map(float, slope(points))])
    largest, at_ten = rows[0][1], max(rows[0][2], rows[0][4])
    return Claim(
        "Sigmoid saturates: its gradient is at most 1/4, and about 0 beyond 10",
        "Lecture, section 1",
        "Local gradients by `jax.grad` of each function, in float32.",
        [["Activation", "Largest gradient", "at -10", "at 0", "at 10"], *rows],
        abs(largest - 0.25) < 1e-6 and at_ten < 1e-4,
        f"Sigmoid: {largest:.4f} at most, {at_ten:.1e} at 10. tanh reaches 1 but saturates sooner; "
        "ReLU and its kin do not on the right.",
    )


def signs_of_gradients() -> Claim:
    wanted = {1: 1.0, 8: 0.65, 64: 0.64, 512: 0.63}
    rows, found = [], {}
    for batch, stated in wanted.items():
        found[batch] = [measures.signs_of_neuron(batch, centred, 400) for centred in (False, True)]
        rows.append([batch, f"{stated:.2f}", *(f"{value:.3f}" for value in found[batch])])
    return Claim(
        "With positive inputs all weight gradients of a neuron share a sign, so updates zig-zag",
        "Lecture, section 1; LeCun et al., 1998, section 4.3",
        "One neuron of 784 inputs, uniform in [0, 1] or centred, upstream gradients N(0, 1): "
        "|mean of the signs of dL/dw|, mean of 400 draws.",
        [["Batch", "Lecture, positive", "Positive inputs", "Centred inputs"], *rows],
        all(abs(found[batch][0] - stated) < 0.05 for batch, stated in wanted.items()),
        "Exactly at batch 1. A larger batch does not help, for the mean input stays: it tends to "
        "2 / pi * arctan(mean / deviation of the inputs), here 2/3; the lecture's figures are as "
        f"near to that as few draws come. Centred inputs: {found[64][1]:.3f} (lecture: .028).",
    )


def deep_sigmoid() -> Claim:
    """Also of section 4: with batch norm it trains."""
    rows, best = [], {}
    for activation in ("sigmoid", "tanh", "relu"):
        for normalization in ("none", "batch_norm"):
            changes = {
                "model.hidden": (64,) * 6,
                "model.activation": activation,
                "model.normalization": normalization,
                "model.initializer": "xavier_normal",
            }
            net = Net(_PLAIN | {"model.activation_gain": False} | changes)
            rate = net.best("optimizer__learning_rate", _RATES)
            score = net.scores(optimizer__learning_rate=rate, split="train")["accuracy"]
            best[activation, normalization] = score.mean()
            rows.append([f"`{activation}`", f"`{normalization}`", rate, percent(score)])
    without, with_norm = best["sigmoid", "none"], best["sigmoid", "batch_norm"]
    return Claim(
        "A deep sigmoid net barely trains without batch norm, and trains with it",
        "Lecture, sections 1 and 4; Ioffe and Szegedy, 2015",
        "Six hidden layers of 64 on digits, Xavier weights, Adam, 20 epochs; accuracy on train at "
        "the best of four rates (chosen on validation).",
        [["Activation", "Normaliser", "Rate", "Train accuracy"], *rows],
        without < 0.5 < 0.95 < with_norm,
        f"Sigmoid: {percent(without)} without, {percent(with_norm)} with; tanh without: "
        f"{percent(best['tanh', 'none'])}.",
    )


def convergence_of_relu() -> Claim:
    every, most, wanted = 20, 1200, 0.75
    steps, rows = {}, []
    for activation in ("tanh", "relu"):
        net = Net(
            {
                "data.name": "cifar10",
                "data.validation": 0.95,
                "batch_size": 64,
                "duration": f"{most} steps",
                "model.name": "cnn",
                "model.channels": (8, 16, 32, 32),
                "model.activation": activation,
                "model.normalization": "none",
                "model.initializer": "lecun_normal",
                "model.activation_gain": True,
                "optimizer.name": "momentum",
                "schedule.name": "constant",
            }
        )
        reached = {}
        for rate in (0.01, 0.02, 0.04):
            state, correct = net.start(optimizer__learning_rate=rate), []
            least = min(reached.values(), default=most)
            for step in range(every, least + 1, every):
                state, sums = net.train(every, state)
                correct.append(int(sums["correct"]) / int(sums["count"]))
                if np.mean(correct[-2:]) >= wanted:
                    reached[rate] = step
                    break
        rate = min(reached, key=reached.get, default=None)
        steps[activation] = reached.get(rate, most)
        rows.append([f"`{activation}`", rate, steps[activation]])
    ratio = steps["tanh"] / steps["relu"]
    return Claim(
        "ReLU converges faster than tanh: to 25 % train error in a sixth of the steps",
        "Lecture, section 1; Krizhevsky et al., 2012, figure 1",
        "Four convolutional layers without a normaliser, 2,500 images of CIFAR-10, momentum; steps "
        f"of batch 64 until the mean of {2 * every} steps is below 25 % error, at the fastest of "
        "three rates for each.",
        [["Activation", "Rate", "Steps"], *rows],
        "Holds in kind, not in size" if 1.1 < ratio < 4 else ratio >= 4,
        f"tanh takes {ratio:.1f} times as many steps. Both have weights scaled by their own gain, "
        "and "
        "a rate of their own.",
    )


def dead_units() -> Claim:
    ways = {
        "As it is": {},
        "Bias .1": {"model__initial_bias": 0.1},
        "Bias 1": {"model__initial_bias": 1.0},
        "Weights halved": {"model__initializer_scale": 0.5},
    }
    rows, dead = [], {}
    net = Net(_PLAIN | {"optimizer.name": "sgd", "schedule.name": "constant"})

    def share(state):
        return measures.dead_fraction(net.preactivations(state, net.run.train.inputs)[1])

    for rate in (0.1, 0.3, 0.5, 1.0, 2.0):
        for way, numbers in ways.items():
            numbers = numbers | {"optimizer__learning_rate": rate}
            dead[rate, way] = [share(net.train(seed=seed, **numbers)[0]) for seed in SEEDS]
        rows.append([rate, *(percent(dead[rate, way], 0) for way in ways)])
    before = [share(net.start(seed=seed)) for seed in SEEDS]
    most = max(map(np.mean, dead.values()))
    plain, biased, small = (np.mean(dead[1.0, way]) for way in ("As it is", "Bias .1", "Bias 1"))
    kills, helps = most > 0.3 and np.mean(before) < 0.05, biased < 0.7 * plain
    return Claim(
        "Too high a learning rate kills ReLU units, up to 40 %; a small positive bias helps",
        "Lecture, section 1",
        "Two hidden layers of 64 ReLU on digits, plain SGD, 20 epochs: the share of hidden units "
        "that are 0 on every training image, by learning rate and start.",
        [["Rate", *ways], *rows],
        {(True, False): "Holds for the rate, not for the bias"}.get((kills, helps), kills),
        f"Before training {percent(before, 0)} are dead, after it up to {percent(most, 0)}. At "
        f"rate 1 a bias of .1 makes {percent(biased, 0)} of {percent(plain, 0)}, a bias of 1 "
        f"{percent(small, 0)}. In the picture: one hidden layer on points of the plane, and where "
        "each unit begins to give more than 0; the arrow points to there.",
        pictures.panels([_hyperplanes(rate) for rate in (0.1, 6.0)]),
    )


def _hyperplanes(rate: float):
    """Draws a small net's units over its data, after training at a rate."""
    net = Net(
        {
            "data.name": "moons",
            "duration": "20 epochs",
            "model.hidden": (16,),
            "model.normalization": "none",
            "optimizer.name": "sgd",
            "schedule.name": "constant",
        }
    )
    state, _ = net.train(seed=1, optimizer__learning_rate=rate)
    points = np.asarray(preprocess(state.preprocessing, net.run.train.inputs)).reshape(-1, 2)
    layer = jax.device_get(state.params["Dense_0"])
    dead = (points @ layer["kernel"] + layer["bias"] <= 0).all(0)

    def draw(axis):
        axis.scatter(
            *points.T, c=[COLORS[4 + label] for label in net.run.train.labels], s=4, zorder=9
        )
        for kind, color, chosen in (("alive", COLORS[0], ~dead), ("dead", COLORS[1], dead)):
            for number, unit in enumerate(np.flatnonzero(chosen)):
                normal, bias = layer["kernel"][:, unit], layer["bias"][unit]
                length = np.linalg.norm(normal)
                nearest, along = -bias * normal / length**2, np.array([-normal[1], normal[0]])
                ends = np.stack([nearest - 20 * along / length, nearest + 20 * along / length])
                axis.plot(*ends.T, color=color, linewidth=1, label=None if number else kind)
                arrow = {"arrowstyle": "->", "color": color}
                axis.annotate("", nearest + 0.4 * normal / length, nearest, arrowprops=arrow)
        axis.set(xlim=(-4, 4), ylim=(-4, 4), aspect="equal", xlabel="x", ylabel="y")
        axis.set(title=f"rate {rate:g}: {dead.sum()} of {len(dead)} dead")

    return draw


def all_activations() -> Claim:
    rows, accuracies = [], {}
    for name in public_functions(activations):
        net = Net(_PLAIN | {"model.activation": name})
        rate = net.best("optimizer__learning_rate", _RATES)
        found, dead = [], []
        for seed in SEEDS:
            state, _ = net.train(seed=seed, optimizer__learning_rate=rate)
            found.append(net.score(state)["accuracy"])
            dead.append(measures.dead_fraction(net.preactivations(state, net.run.train.inputs)[1]))
        accuracies[name] = np.mean(found)
        rows.append([f"`{name}`", rate, percent(found), percent(dead, 0), parameters(state)])
    order = sorted(accuracies, key=accuracies.get)
    others = [accuracies[name] for name in accuracies if name != "identity"]
    return Claim(
        "Each activation trains the same net",
        "Lecture, section 1",
        "Two hidden layers of 64 on digits without a normaliser, LeCun weights times the gain of "
        "the activation, Adam, 20 epochs, the best of four rates. What each costs: "
        "benchmarks/costs.md.",
        [["Activation", "Rate", "Test accuracy", "Dead units", "Parameters"], *rows],
        min(others) > 0.93,
        f"{percent(min(others))} (`{order[order[0] == 'identity']}`) to {percent(max(others))} "
        f"(`{order[-1]}`); `identity`, a linear classifier, has {percent(accuracies['identity'])}. "
        "Between most of them this data set cannot tell. `maxout` has twice the parameters.",
    )
