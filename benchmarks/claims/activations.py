"""Section 1: activation functions."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims import measures, pictures, statistics
from benchmarks.claims.common import (
    SEEDS,
    Claim,
    Net,
    least_steps,
    parameters,
    percent,
    rates,
)
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
_RATES = rates(3e-4, 0.1, 6)


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
    alike = found[1][0] == 1
    mostly = all(positive > 0.5 > 0.1 > centred for positive, centred in list(found.values())[1:])
    return Claim(
        "With positive inputs all weight gradients of a neuron share a sign, so updates zig-zag",
        "Lecture, section 1; LeCun et al., 1998, section 4.3",
        "One neuron of 784 inputs, uniform in [0, 1] or centred, upstream gradients N(0, 1): "
        "|mean of the signs of dL/dw|, mean of 400 draws. That updates zig-zag follows from it, "
        "and is not measured.",
        [["Batch", "Lecture, positive", "Positive inputs", "Centred inputs"], *rows],
        "Holds for a single example; in a batch most share a sign" if alike and mostly else False,
        f"All of them at batch 1; at batch 64 {percent((1 + found[64][0]) / 2, 0)} have the sign "
        "of the majority. A larger batch does not help, for the mean input stays: the figure tends "
        "to 2 / pi * arctan(mean / deviation of the inputs), here 2/3; the lecture's are as near "
        f"to that as few draws come. Centred inputs: {found[64][1]:.3f} (lecture: .028).",
    )


def deep_sigmoid() -> Claim:
    """Also of section 4: with batch norm it trains."""
    rows, scores, chosen = [], {}, {}
    for activation in ("sigmoid", "tanh", "relu"):
        for normalization in ("none", "batch_norm"):
            changes = {
                "model.hidden": (64,) * 6,
                "model.activation": activation,
                "model.normalization": normalization,
                "model.initializer": "xavier_normal",
            }
            net = Net(_PLAIN | {"model.activation_gain": False} | changes)
            rate = net.best("optimizer__learning_rate", _RATES, split="train")
            found = net.scores(optimizer__learning_rate=rate, split="train")["accuracy"]
            scores[activation, normalization] = found
            chosen[f"{activation}, {normalization}"] = rate, _RATES
            rows.append([f"`{activation}`", f"`{normalization}`", rate, percent(found)])
    without, with_norm = scores["sigmoid", "none"], scores["sigmoid", "batch_norm"]
    found = statistics.judged(
        {"it barely trains without": 0.5 - without, "it trains with it": with_norm - 0.95}
    )
    return Claim(
        "A deep sigmoid net barely trains without batch norm, and trains with it",
        "Lecture, sections 1 and 4; Ioffe and Szegedy, 2015",
        "Six hidden layers of 64 on digits, Xavier weights, Adam, 20 epochs; accuracy on train at "
        f"the best of {len(_RATES)} rates by it, ten seeds. Barely: less than 50 %; trains: more "
        "than 95 %.",
        [["Activation", "Normaliser", "Rate", "Train accuracy"], *rows],
        statistics.by_part(found),
        f"Sigmoid: {percent(without)} without, {percent(with_norm)} with; tanh without: "
        f"{percent(scores['tanh', 'none'])}." + statistics.edges(chosen),
    )


def convergence_of_relu() -> Claim:
    every, most, wanted, grid = 20, 1600, 0.75, (0.01, 0.02, 0.04, 0.005, 0.08)
    steps, rows, chosen = {}, [], {}
    for activation in ("tanh", "relu"):
        net = Net(
            {
                "data.name": "cifar10",
                "data.validation": 0.97,
                "batch_size": 32,
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

        def steps_of(rate, seed, most, net=net):
            numbers = {"seed": seed, "optimizer__learning_rate": rate}
            return net.steps_until(wanted, every, most, 3, **numbers)

        rate = least_steps(steps_of, grid, most)
        chosen[activation] = rate, grid
        steps[activation] = np.array([steps_of(rate, seed, most) for seed in SEEDS])
        mean, low, high = statistics.interval(steps[activation])
        rows.append([f"`{activation}`", rate, f"{mean:.0f} ({low:.0f} to {high:.0f})"])
    ratios = np.log(steps["tanh"] / steps["relu"])
    faster, much = statistics.judged({"": ratios, "a quarter": ratios - np.log(4)}).values()
    ratio, low, high = np.exp(statistics.interval(ratios))
    capped = sum(int((each == most).sum()) for each in steps.values())
    return Claim(
        "ReLU converges faster than tanh: to 25 % train error in a sixth of the steps",
        "Lecture, section 1; Krizhevsky et al., 2012, figure 1",
        "Four convolutional layers without a normaliser, 1,500 images of CIFAR-10, momentum; steps "
        f"of batch 32 until {3 * every} of them have less than 25 % error, at the fastest of "
        f"{len(grid)} rates for each; mean of ten seeds, 95 % interval. It holds where tanh takes "
        "at least four times as many.",
        [["Activation", "Rate", "Steps"], *rows],
        {
            (statistics.BETTER, statistics.BETTER): "Holds",
            (statistics.BETTER, statistics.WORSE): "Holds in kind, not in size",
            (statistics.BETTER, statistics.INCONCLUSIVE): "Holds in kind, the size is inconclusive",
            (statistics.WORSE, statistics.WORSE): "Does not hold here",
        }.get((faster.verdict, much.verdict), "Inconclusive, but not in a quarter"),
        f"tanh takes {ratio:.2f} ({low:.2f} to {high:.2f}) times as many steps. Both have weights "
        "scaled by their own gain, and a rate of their own."
        + f" {capped} trainings did not get there and count as {most}." * bool(capped)
        + statistics.edges(chosen),
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

    tried = (0.1, 0.3, 0.5, 0.7, 1.0, 1.4, 2.0)
    for rate in tried:
        for way, numbers in ways.items():
            numbers = numbers | {"optimizer__learning_rate": rate}
            found = [share(net.train(seed=seed, **numbers)[0]) for seed in SEEDS]
            dead[rate, way] = np.array(found)
    before = np.array([share(net.start(seed=seed)) for seed in SEEDS])
    plain = {rate: dead[rate, "As it is"] for rate in tried}
    saved = {rate: plain[rate] - dead[rate, "Bias .1"] for rate in tried}
    found = statistics.judged(
        saved | {("killed", rate): plain[rate] - before - 0.3 for rate in tried}
    )
    for rate in tried:
        shares = (percent(dead[rate, way], 0) for way in ways)
        rows.append([rate, *shares, found[rate].cell(0)])
    kills = [rate for rate in tried if found["killed", rate].verdict == statistics.BETTER]
    bias = {rate: found[rate] for rate in tried}
    helps, harms = (statistics.rows(bias, word) for word in (statistics.BETTER, statistics.WORSE))
    told = (
        f"helps at {len(helps)} of {len(tried)} rates" if helps else
        "does harm" if harms else "does nothing that ten seeds show"
    )  # fmt: skip
    return Claim(
        "Too high a learning rate kills ReLU units, up to 40 %; a small positive bias helps",
        "Lecture, section 1",
        "Two hidden layers of 64 ReLU on digits, plain SGD, 20 epochs: the share of hidden units "
        "that are 0 on every training image, by learning rate and start, of ten seeds; and what of "
        "it a bias of .1 saves, in points, with its 95 % interval.",
        [["Rate", *ways, "Saved by .1"], *rows],
        f"{'Holds for the rate' if kills else 'Does not hold here'}; a bias of .1 {told}",
        f"Before training {percent(before, 0)} are dead; as it is, training at rate {tried[-1]:g} "
        f"leaves {percent(plain[tried[-1]], 0)} so"
        + (f", and kills more than 30 % from {kills[0]:g} on" if kills else "")
        + f". A bias of 1 leaves {percent(dead[1.0, 'Bias 1'], 0)} dead at rate 1, where "
        f"{percent(plain[1.0], 0)} are without. In the picture: one hidden layer on points of the "
        "plane, and where each unit begins to give more than 0; the arrow points to there.",
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
    rows, scores, chosen, wanted = [], {}, {}, 0.93
    for name in public_functions(activations):
        net = Net(_PLAIN | {"model.activation": name})
        rate = net.best("optimizer__learning_rate", _RATES)
        chosen[f"`{name}`"] = rate, _RATES
        found, dead = [], []
        for seed in SEEDS:
            state, _ = net.train(seed=seed, optimizer__learning_rate=rate)
            found.append(net.score(state)["accuracy"])
            dead.append(measures.dead_fraction(net.preactivations(state, net.run.train.inputs)[1]))
        scores[name] = np.array(found)
        rows.append([f"`{name}`", rate, percent(found), percent(dead, 0), parameters(state)])
    others = [name for name in scores if name != "identity"]
    found = statistics.judged({name: scores[name] for name in others}, above=wanted)
    beside = statistics.judged(
        {name: scores[name] - scores["relu"] for name in scores if name != "relu"}
    )
    for row in rows:
        name = row[0].strip("`")
        row.insert(3, beside[name].cell() if name in beside else "")
    order = sorted(others, key=lambda name: scores[name].mean())
    told = [
        f"{', '.join(f'`{name}`' for name in statistics.rows(beside, word)) or 'none'} {word}"
        for word in (statistics.BETTER, statistics.WORSE)
    ]
    return Claim(
        "Each activation trains the same net",
        "Lecture, section 1",
        "Two hidden layers of 64 on digits without a normaliser, LeCun weights times the gain of "
        f"the activation, Adam, 20 epochs, the best of {len(_RATES)} rates by validation accuracy; "
        f"test accuracy of ten seeds. It trains: more than {percent(wanted, 0)}. What each costs: "
        "benchmarks/costs.md.",
        [["Activation", "Rate", "Test accuracy", "Beside `relu`", "Dead units", "Parameters"]]
        + rows,
        statistics.together(found),
        f"{percent(scores[order[0]].mean())} (`{order[0]}`) to {percent(scores[order[-1]].mean())} "
        f"(`{order[-1]}`); `identity`, a linear classifier, has "
        f"{percent(scores['identity'].mean())}. Beside `relu`: {'; '.join(told)}; between the "
        "others ten seeds on this data set cannot tell. `maxout` has twice the parameters."
        + statistics.edges(chosen),
    )
