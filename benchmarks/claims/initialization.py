"""Section 3: weight initialisation."""

import numpy as np
from scipy.stats import spearmanr

from benchmarks.claims import measures, statistics
from benchmarks.claims.common import SEEDS, Claim, Net, percent, rates
from research.data.dataset import Arrays

TITLE = "Weight initialisation"
_LAYERS = 10


def _ten_layers(initializer: str, activation: str, scale: float = 1.0, seed: int = 1) -> list:
    """What ten layers of 500 units give for 1,000 examples of 500 numbers from N(0, 1)."""
    inputs = np.random.default_rng(seed).standard_normal((1000, 500)).astype(np.float32)
    noise = Arrays(inputs, np.zeros(len(inputs), np.int32))
    net = Net(
        {
            "model.hidden": (500,) * _LAYERS,
            "model.activation": activation,
            "model.normalization": "none",
            "model.initializer": initializer,
            "preprocessing.name": "none",
        },
        train=noise,
    )
    state = net.start(seed=seed, model__initializer_scale=scale)
    state = state.replace(preprocessing={"shift": np.float32(0), "scale": np.float32(1)})
    return [np.asarray(layer) for layer in net.preactivations(state, inputs)[1]]


def _deviations(*arguments, **keywords) -> list[float]:
    return [float(layer.std()) for layer in _ten_layers(*arguments, **keywords)]


def deviation_by_layer() -> Claim:
    xavier = [0.628, 0.485, 0.407, 0.357, 0.321, 0.294, 0.272, 0.254, 0.241, 0.228]
    stated = {
        "small_normal, tanh": [0.213, 0.0476, 0.0106, 0.00238, 0.000532, 0.000119, 0.000026],
        "xavier_normal, tanh": xavier,
        # Each layer halves the variance; ReLU leaves sqrt(1 - 1 / pi) of He weights' deviation.
        "xavier_normal, relu": np.sqrt(1 - 1 / np.pi) / np.sqrt(2) ** np.arange(1, _LAYERS + 1),
    }
    cases = {
        "small_normal, tanh": _deviations("small_normal", "tanh"),
        "normal, tanh": _deviations("normal", "tanh"),
        "xavier_normal, tanh": _deviations("xavier_normal", "tanh"),
        "xavier_normal, relu": _deviations("xavier_normal", "relu"),
        "he_normal, relu": _deviations("he_normal", "relu"),
    }
    rows = []
    for case, found in cases.items():
        rows.append([case, *(f"{value:.3g}" for value in found)])
        if case in stated:
            whose = "(computed)" if case == "xavier_normal, relu" else "(lecture)"
            rows.append([whose, *(f"{value:.3g}" for value in stated[case])])
            rows[-1] += [""] * (_LAYERS + 1 - len(rows[-1]))
    errors = {
        case: max(abs(a / b - 1) for a, b in zip(cases[case], figures, strict=False))
        for case, figures in stated.items()
    }
    saturated = [float((np.abs(layer) > 0.99).mean()) for layer in _ten_layers("normal", "tanh")]
    return Claim(
        "Small weights let activations collapse, large ones saturate, Xavier keeps tanh alive but "
        "not ReLU, He keeps ReLU",
        "Lecture, section 3; Glorot and Bengio, 2010; He et al., 2015",
        "1,000 inputs of 500 numbers from N(0, 1), ten layers of 500: standard deviation of the "
        "activations, layer by layer; one seed. Computed, for wide layers: sqrt(1 - 1 / pi) / "
        "sqrt(2)^layer.",
        [["Weights", *range(1, _LAYERS + 1)], *rows],
        max(errors.values()) < 0.25
        and cases["small_normal, tanh"][-1] < 1e-5
        and min(saturated) > 0.85
        and cases["xavier_normal, tanh"][-1] > 0.2
        and cases["xavier_normal, relu"][-1] < 0.05
        and cases["he_normal, relu"][-1] > 0.5,
        "Farthest from the figures of the lecture, or computed: "
        + ", ".join(f"{100 * error:.0f} % ({case})" for case, error in errors.items())
        + f". With N(0, 1) weights {100 * min(saturated):.0f} to {100 * max(saturated):.0f} % of "
        f"the activations are beyond .99 (lecture: 90 %).",
    )


def he_over_seeds() -> Claim:
    found = np.array([_deviations("he_normal", "relu", seed=seed) for seed in range(20)])
    theory = np.sqrt(1 - 1 / np.pi)  # of max(z, 0), z ~ N(0, 2)
    low, high = np.quantile(found, [0.05, 0.95], axis=0)
    widths, off = high - low, np.abs(found.mean(0) / theory - 1).max()
    grows = spearmanr(np.arange(_LAYERS), widths).statistic
    return Claim(
        "He weights keep the deviation of ReLU layers at .826, with a spread over seeds that grows",
        "Lecture, section 3; He et al., 2015, eq. 10",
        "As above, 20 seeds.",
        [
            ["", *range(1, _LAYERS + 1)],
            ["mean", *(f"{value:.3f}" for value in found.mean(0))],
            ["5 to 95 %", *(f"{a:.2f} to {b:.2f}" for a, b in zip(low, high, strict=True))],
        ],
        bool(off < 0.05 and grows > 0.8 and widths[-1] > 2 * widths[0]),
        f"Theory: sqrt(1 - 1 / pi) = {theory:.3f}; the means are within {percent(off)} of it. In "
        f"the tenth layer the band is {widths[-1]:.2f} wide, in the first {widths[0]:.3f} (rank "
        f"correlation of width and layer {grows:.2f}): one net says little of its scheme.",
    )


def symmetric_units() -> Claim:
    rows, distinct = [], {}
    for initializer in ("zeros", "constant", "xavier_normal"):
        net = Net(
            {
                "model.hidden": (64, 64, 64),
                "model.activation": "tanh",
                "model.normalization": "none",
                "model.initializer": initializer,
                "optimizer.name": "sgd",
                "optimizer.learning_rate": 0.1,
                "schedule.name": "constant",
            }
        )
        scale = {"constant": 0.05}.get(initializer, 1.0)
        state, _ = net.train(200, model__initializer_scale=scale)
        kernels = [state.params[f"Dense_{layer}"]["kernel"] for layer in range(3)]
        distinct[initializer] = [measures.distinct_units(kernel) for kernel in kernels]
        rows.append(
            [f"`{initializer}`", *distinct[initializer], percent(net.score(state)["accuracy"])]
        )
    same = all(count == 1 for name in ("zeros", "constant") for count in distinct[name][:2])
    return Claim(
        "From equal weights all units of a layer stay alike",
        "Lecture, section 3",
        "Three hidden layers of 64 tanh units on digits, 200 steps of SGD at rate .1; constant is "
        ".05: how many different units there are in each layer.",
        [["Weights", "Layer 1", "Layer 2", "Layer 3", "Test accuracy"], *rows],
        "Holds, but for the layer below the head" if same else False,
        "The head starts from small random weights here, so that the gradients of the layer below "
        "it differ from unit to unit; with `zeros` that layer gets nothing to multiply them by.",
    )


def thirty_layers() -> Claim:
    rows, scores, chosen, grid = [], {}, {}, rates(3e-4, 1e-2, 4)
    cases = {
        "he_normal": {"model.initializer": "he_normal"},
        "LSUV": {"model.initializer": "orthogonal", "model.fit_weights": "lsuv"},
        "xavier_normal": {"model.initializer": "xavier_normal"},
        "small_normal": {"model.initializer": "small_normal"},
    }
    for case, changes in cases.items():
        net = Net(
            {
                "data.name": "mnist",
                "data.validation": 0.9,
                "duration": "12 epochs",
                "model.hidden": (64,) * 30,
                "model.normalization": "none",
                "schedule.warmup": "5 percent",
            }
            | changes
        )
        rate = net.best("optimizer__learning_rate", grid)
        chosen[case] = rate, grid
        early, late = [], []
        for seed in SEEDS:
            first = net.steps // 12
            state, _ = net.train(first, seed=seed, optimizer__learning_rate=rate)
            early.append(net.score(state)["accuracy"])
            state, _ = net.train(net.steps - first, state)
            late.append(net.score(state)["accuracy"])
        scores[case] = np.array(late)
        rows.append([case, rate, percent(early), percent(late)])
    he, lsuv, xavier = (scores[case] for case in ("he_normal", "LSUV", "xavier_normal"))
    found = statistics.judged(
        {
            "He trains": he - 0.8,
            "LSUV trains": lsuv - 0.8,
            "Xavier stalls": 0.2 - xavier,
            "He beside Xavier": he - xavier,
            "LSUV beside Xavier": lsuv - xavier,
        }
    )
    trains, stalls, ahead = (
        all(found[part].verdict == statistics.BETTER for part in parts)
        for parts in (
            ("He trains", "LSUV trains"),
            ("Xavier stalls",),
            ("He beside Xavier", "LSUV beside Xavier"),
        )
    )
    return Claim(
        "A 30-layer ReLU net trains with He weights or LSUV and stalls with Xavier",
        "Lecture, section 3; He et al., 2015, figure 3",
        "Thirty layers of 64 without a normaliser, 6,000 images of MNIST, Adam, 12 epochs, the "
        f"best of {len(grid)} rates by validation accuracy: test accuracy after one epoch and at "
        "the end, ten seeds. Trains: more than 80 % at the end; stalls: less than 20 %.",
        [["Weights", "Rate", "After 1 epoch", "At the end"], *rows],
        "Holds" if trains and stalls else
        "Holds in part: Xavier ends behind, but does not stall" if trains and ahead else
        "Inconclusive" if statistics.rows(found, statistics.INCONCLUSIVE) else False,
        f"Ahead of Xavier, in points: He {found['He beside Xavier'].told()}, LSUV "
        f"{found['LSUV beside Xavier'].told()}. "
        f"Weights of .01 end at {percent(scores['small_normal'])}." + statistics.edges(chosen),
    )  # fmt: skip
