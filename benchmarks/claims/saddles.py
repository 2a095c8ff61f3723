"""Section 6: saddle points, which many dimensions are full of."""

import jax
import numpy as np
import optax

from benchmarks.claims import measures, pictures, surfaces
from benchmarks.claims.common import Claim, Net, percent
from research import models
from research.data.feed import preprocess
from research.reporting.plots import COLORS

TITLE = "Saddle points"
_RULES = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")


def saddles_by_dimension() -> Claim:
    random, rows, shares, errors = np.random.default_rng(0), [], {}, []
    exact = {
        1: (1 / 2, 1 / 2),
        2: ((2 - 2**0.5) / 4, 1 / 4),
        3: ((np.pi - 8**0.5) / (4 * np.pi), (29 - 6 * 6**0.5) / 116),
    }
    for d in (1, 2, 3, 4, 8, 16):
        draws = 200_000 if d <= 4 else 20_000
        matrices = (measures.orthogonal_ensemble(random, draws, d)[:, 0] > 0).mean()
        by_matrices = measures.shares_by_index(measures.orthogonal_ensemble(random, draws, d + 1))
        shares[d] = (
            matrices if d <= 4 else None,  # too rare to be met
            by_matrices[0],
            _minima_found(d) if d <= 3 else None,
        )
        theory = exact.get(d, (None, None))
        errors += [a / b - 1 for a, b in zip(shares[d], theory, strict=False) if b]
        cells = (theory[0], shares[d][0], theory[1], *shares[d][1:])
        rows.append([d, *("" if value is None else f"{value:.3g}" for value in cells)])
    dimension = 8
    heights, falling = _critical_points(dimension)
    correlation = np.corrcoef(heights, falling)[0, 1]

    def draw_shares(axis):
        kinds = (
            ("random matrices", "o", "-"),
            ("critical points, by matrices", "s", "-"),
            ("critical points, found", "x", "none"),
        )
        for column, (name, marker, line) in enumerate(kinds):
            there = [d for d in shares if shares[d][column]]
            y = [shares[d][column] for d in there]
            axis.plot(there, y, color=COLORS[column], linestyle=line, marker=marker, label=name)
        axis.set(xlabel="dimension", ylabel="share without a falling direction", yscale="log")
        axis.set(title="Minima become rare")

    def draw_heights(axis):
        places = falling + random.uniform(-0.02, 0.02, len(falling))
        axis.plot(heights, places, ".", color=COLORS[0], alpha=0.4, label="found")
        line = np.linspace(heights.min(), heights.max(), 100)
        theory = measures.semicircle_below(line / (2 * np.sqrt(dimension)))
        axis.plot(line, theory, color=COLORS[1], label="semicircle (many dimensions)")
        axis.set(xlabel="height of the critical point, in standard deviations")
        axis.set(ylabel="share of falling directions", title=f"{dimension} dimensions")

    return Claim(
        "In many dimensions critical points are saddles: some directions rise, some fall",
        "Lecture, section 6; Dean and Majumdar, 2006; Bray and Dean, 2007; Dauphin et al., 2014",
        "The share without a falling direction: of random symmetric matrices (the Hessian of a "
        "Gaussian field where its height is the mean), and of the critical points of an isotropic "
        "Gaussian field: by its formula in such matrices, and of those that Newton's method finds "
        "from many starts in a cube, in sums of 256 cosines.",
        [
            ["Dimension", "Matrices, exact", "Drawn", "Minima, exact", "By matrices", "Found"],
            *rows,
        ],
        bool(np.max(np.abs(errors)) < 0.05 and correlation > 0.3),
        "Matrices without one become rare like 3^(-d^2 / 4), minima among critical points only "
        f"exponentially: {shares[16][1]:.0e} in 16 dimensions. And the height tells which: of "
        f"{len(heights)} critical points found in {dimension} dimensions the lower have fewer "
        f"falling directions (correlation {correlation:.2f}).",
        pictures.panels([draw_shares, draw_heights]),
    )


def _minima_found(dimension: int) -> float:
    """The share of minima among all critical points of some fields in a cube."""
    fields, side, starts = {1: (30, 60.0, 1500), 2: (30, 14.0, 2000), 3: (30, 6.0, 2000)}[dimension]
    eigenvalues = []
    for n in range(fields):
        field_key, starts_key = jax.random.split(jax.random.key(n))
        field = surfaces.random_field(field_key, dimension)
        places = jax.random.uniform(starts_key, (starts, dimension), minval=-1, maxval=side + 1)
        eigenvalues.append(surfaces.critical_points(field, places, side)[1])
    return float((np.concatenate(eigenvalues)[:, 0] > 0).mean())


def _critical_points(dimension: int) -> tuple[np.ndarray, np.ndarray]:
    """Heights, and shares of falling directions, of some that Newton's method finds."""
    starts = jax.random.uniform(jax.random.key(1), (1500, dimension), maxval=10.0)
    field = surfaces.random_field(jax.random.key(0), dimension, waves=1024)
    heights, eigenvalues = surfaces.critical_points(field, starts, 10.0)
    return heights, (eigenvalues < 0).mean(1)


def escape_from_a_saddle() -> Claim:
    rate, steps, copies, noise = 0.01, 4000, 50, 0.01
    offsets = {"1e-3": 1e-3, "1e-6": 1e-6, "1e-9": 1e-9, "0": 0.0}
    rows, found, ways = [], {}, {}

    def height(w):
        return (w[:copies] ** 2 - w[copies:] ** 2).sum() / 2

    for name in _RULES:
        for case, offset in [*offsets.items(), ("0, noise", 0.0)]:
            start = np.repeat([1.0, offset], copies)
            path = surfaces.paths(
                height, start, steps, [rate], noise=noise * ("noise" in case), optimizer__name=name
            )
            away = np.abs(path[0, :, copies:])
            out = np.where(away > 1, np.arange(steps + 1)[:, None], steps + 1).min(0)
            found[name, case] = np.inf if (out > steps).any() else out.mean()
            ways[name, case] = away.mean(1)
        cells = [found[name, case] for case in (*offsets, "0, noise")]
        cells = ["never" if np.isinf(cell) else f"{cell:.0f}" for cell in cells]
        theory = measures.escape(name, rate, 1e-6) if name in _RULES[:3] else ""
        rows.append([f"`{name}`", *cells, theory and f"{theory:.0f}"])

    def drawing(case):
        def draw(axis):
            for color, name in zip(COLORS, _RULES, strict=False):
                way = ways[name, case]
                axis.plot(way[: np.argmax(way > 3) or None], color=color, label=name)
            axis.set(xlabel="step", ylabel="distance from the ridge", xscale="log", yscale="log",
                     title=f"from {case}")  # fmt: skip

        return draw

    adaptive = max(found[name, "1e-6"] for name in ("rmsprop", "adam"))
    errors = [abs(found[name, "1e-6"] / measures.escape(name, rate, 1e-6) - 1)
              for name in _RULES[:3]]  # fmt: skip
    return Claim(
        "Gradients vanish near a saddle: SGD stays long, noise and momentum help, RMSProp and Adam "
        "most",
        "Lecture, section 6; Dauphin et al., 2014; Jin et al., 2017",
        f"x^2 / 2 - y^2 / 2 from (1, y), rate {rate:g} for all: steps until |y| > 1, by y at the "
        f"start; with noise N(0, {noise:g}^2) on each number of the gradient the mean of {copies} "
        "draws. Theory, from 1e-6: log(1e6) / log(the largest eigenvalue of a step).",
        [
            ["Optimiser", *(f"from {case}" for case in (*offsets, "0, noise")), "Theory, 1e-6"],
            *rows,
        ],  # fmt: skip
        bool(
            max(errors) < 0.1
            and np.isinf(found["sgd", "0"])
            and adaptive < found["momentum", "1e-6"] < found["sgd", "1e-6"]
        ),
        "On the ridge itself nothing moves any of them; noise does. SGD needs as many steps for "
        "each factor by which it starts nearer, momentum "
        f"{percent(found['momentum', '1e-6'] / found['sgd', '1e-6'])} of them; RMSProp and Adam "
        f"divide the small gradient by its own size: {found['rmsprop', '1e-6']:.0f} and "
        f"{found['adam', '1e-6']:.0f} steps from 1e-6. So does AdaGrad, but its steps shrink: "
        f"{found['adagrad', '1e-3']:.0f} from 1e-3, where SGD needs {found['sgd', '1e-3']:.0f}.",
        pictures.panels([drawing("1e-6"), drawing("0, noise")], "lower right"),
    )


def curvature_of_a_net() -> Claim:
    net = Net(
        {
            "batch_size": 1298,
            "duration": "4000 steps",
            "preprocessing.name": "pca",
            "preprocessing.components": 16,
            "model.hidden": (16,),
            "model.activation": "tanh",
            "model.normalization": "none",
            "optimizer.name": "sgd",
            "optimizer.learning_rate": 0.3,
            "schedule.name": "constant",
        }
    )
    model = models.build(net.run.config, net.start().hyperparameters, net.run.task.outputs)

    def spectrum(state):
        inputs = preprocess(state.preprocessing, net.run.train.inputs)

        def loss(params):
            logits = model.apply({"params": params}, inputs, train=False)
            labels = net.run.train.labels
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        return float(loss(state.params)), *measures.hessian_spectrum(loss, state.params)

    rows, found, spectra = [], {}, {}
    for scale in (1.0, 0.01):
        state = net.start(seed=1, model__initializer_scale=scale)
        for step in (0, 10, 30, 100, 300, 1000, 4000):
            state, _ = net.train(step - int(state.step), state)
            loss, eigenvalues, slope = spectrum(state)
            falling = eigenvalues < -1e-3 * eigenvalues[-1]
            flat = np.abs(eigenvalues) < 1e-3 * eigenvalues[-1]
            found[scale, step] = slope, falling.mean(), -eigenvalues[0] / eigenvalues[-1]
            spectra[scale, step] = eigenvalues
            rows.append([f"x {scale:g}", step, f"{loss:.4f}", f"{slope:.1e}",
                         percent(falling.mean()), percent(flat.mean()),
                         f"{eigenvalues[0]:.2g}", f"{eigenvalues[-1]:.2g}"])  # fmt: skip

    def draw(axis):
        for color, step in zip(COLORS, (0, 30, 300, 4000), strict=False):
            axis.plot(spectra[1.0, step], color=color, label=f"step {step}")
        axis.set(xlabel="eigenvalue, in order", ylabel="curvature", title="Hessian of a small net")
        axis.set_yscale("symlog", linthresh=1e-3)

    (slope, falling, least), late = found[0.01, 0], found[1.0, 4000]
    return Claim(
        "A network's gradient is small near saddle points, not only near minima",
        "Lecture, section 6; Dauphin et al., 2014; Sagun et al., 2017",
        "16-16-10, tanh, on 16 principal components of digits, plain descent by all of train at "
        "rate .3; eigenvalues of the whole Hessian by `jax.hessian`. Falling: below -.001 of the "
        "largest; flat: smaller than that. Weights as usual, and a hundredth of it.",
        [["Weights", "Step", "Loss", "Gradient", "Falling", "Flat", "Least", "Largest"], *rows],
        bool(slope < 0.2 * found[1.0, 0][0] and least > 0.5),
        f"Small weights start near a saddle: a gradient of {slope:.2f} where {percent(falling, 0)} "
        f"of the directions fall, as steeply as others rise. Descent leaves it by itself. Late in "
        f"training (x 1, 4,000 steps, gradient {late[0]:.4f}) {percent(late[1], 0)} still fall, "
        f"but by {late[2]:.3f} of the largest curvature at most.",
        pictures.panels([draw]),
    )
