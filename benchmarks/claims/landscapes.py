"""Section 6: what makes descent hard, on landscapes whose shape is known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from benchmarks.claims import measures, pictures, surfaces
from benchmarks.claims.common import Claim, Net, percent, rates
from research import models
from research.data.feed import preprocess
from research.names import public_functions
from research.optimizers import algorithms
from research.reporting.plots import COLORS

TITLE = "Landscapes"
_TAUGHT = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
_FOR_MATRICES = ("lars", "lamb", "muon")  # on one vector: momentum, adam, adam
_RATES = rates(1e-4, 10, 26)
_STEPS = 1000


def trajectories() -> Claim:
    drawn = {landscape.name: {} for landscape in surfaces.LANDSCAPES}
    arrivals, rows = {}, []
    for name in public_functions(algorithms):
        if name in _FOR_MATRICES:
            continue
        cells = []
        for landscape in surfaces.LANDSCAPES:
            path, arrived, rate = _fastest(name, landscape)
            arrivals[name, landscape.name] = arrived
            cells.append("-" if arrived is None else f"{arrived} ({rate:g})")
            if name in _TAUGHT:
                drawn[landscape.name][name] = path[: (arrived or 200) + 1]
        rows.append([f"`{name}`", *cells])
    names = [landscape.name for landscape in surfaces.LANDSCAPES]

    def steps(name, where):
        return arrivals[name, where] or np.inf

    others = {where: min(_TAUGHT[1:], key=lambda name: steps(name, where)) for where in names}
    mended = [where for where in names if steps(others[where], where) < steps("sgd", where) / 2]
    told = ", ".join(
        f"{where} ({arrivals['sgd', where] or 'never'}; {arrivals[others[where], where]} by "
        f"`{others[where]}`)"
        for where in mended
    )
    drawn = {where: {name: drawn[where][name] for name in _TAUGHT} for where in names}
    return Claim(
        "Ravines, local minima, saddle points, plateaus and noise hold SGD up, fancier optimisers "
        "less",
        "Lecture, section 6",
        f"Functions of the plane (`benchmarks/claims/surfaces.py`), {_STEPS} steps of each rule "
        "from one start, constant rate, otherwise as by default. Steps after which the height "
        f"stays below 1 % of that at the start, at the fastest of {len(_RATES)} rates from "
        f"{_RATES[0]:g} to {_RATES[-1]:g} (in brackets); -: never. Noise is N(0, 9) on each number "
        "of the gradient. Levels in the picture are log-spaced; a path ends where it has arrived, "
        "or after 200 steps.",
        [["Optimiser", *names], *rows],
        len(mended) == len(names) or f"Holds for {len(mended)} of {len(names)}",
        f"In fewer than half of plain SGD's steps: {told or 'none'}.",
        pictures.contours(drawn, surfaces.LANDSCAPES),
    )


def _fastest(name: str, landscape: surfaces.Landscape):
    """The path, when it arrives and at which rate; where it never does, that which ends lowest."""
    found = surfaces.paths(
        landscape.height, landscape.start, _STEPS, _RATES, noise=landscape.noise,
        optimizer__name=name,
    )  # fmt: skip
    heights = surfaces.heights(landscape.height, found)
    arrivals = [surfaces.arrival(each) for each in heights]
    best = min(
        range(len(_RATES)),
        key=lambda n: (_STEPS + 1 if arrivals[n] is None else arrivals[n], heights[n, -1]),
    )
    return found[best], arrivals[best], _RATES[best]


def rates_on_a_quadratic() -> Claim:
    rows, errors = [], []
    for k in (10.0, 100.0, 1000.0):
        cells = []
        for name, (factor, rate, momentum) in measures.best_on_a_quadratic(k).items():
            path = surfaces.paths(
                _quadratic(1.0, k), (1.0, 1.0), int(40 / -np.log(factor)), [rate],
                optimizer__name=name, optimizer__momentum=momentum,
            )  # fmt: skip
            found = measures.convergence_rate(np.linalg.norm(path[0, 1:], axis=1))
            errors.append(abs(np.log(found) / np.log(factor) - 1))
            cells += [f"{factor:.5f}", f"{found:.5f}"]
        rows.append([f"{k:g}", *cells])
    heads = [f"{what}, {kind}" for what in ("Descent", "Heavy ball", "Nesterov")
             for kind in ("theory", "measured")]  # fmt: skip
    return Claim(
        "On a quadratic of condition k, gradient descent falls by (k - 1) / (k + 1) a step, heavy "
        "ball by (sqrt k - 1) / (sqrt k + 1)",
        "Lecture, section 6; Polyak, 1964; Lessard et al., 2016, proposition 1",
        "Two curvatures, 1 and k; the best rate and momentum; the factor a step over the later "
        "half of the steps, through our `sgd`, `momentum` and `nesterov` (whose best is "
        "1 - 2 / sqrt(3 k + 1)).",
        [["k", *heads], *rows],
        max(errors) < 0.05,
        f"To {100 * max(errors):.1f} % of the exponent; of heavy ball and Nesterov what is left is "
        "the factor t of a double eigenvalue.",
    )


def stability_on_a_quadratic() -> Claim:
    rows, ratios = [], {}
    shares = (0.5, 0.99, 1.0, 1.01, 1.1)
    limits = [share * 2 / 8 for share in shares]
    paths = surfaces.paths(_quadratic(1.0, 8.0), (1, 1), 400, limits, optimizer__name="sgd")
    for share, path in zip(shares, paths, strict=True):
        found = np.linalg.norm(path, axis=1)
        ratios[share] = found[-1] / found[200]
        rows.append([f"{share:g} x 2 / 8", f"{found[-1]:.3g}", f"{ratios[share]:.3g}"])
    return Claim(
        "Gradient descent is stable for rates below 2 / (the largest curvature), and not above",
        "Lecture, section 6",
        "Curvatures 1 and 8, from (1, 1), 400 steps of `sgd`.",
        [["Rate", "Distance at the end", "by that after 200 steps"], *rows],
        ratios[0.99] < 0.1 and ratios[1.0] == 1 and ratios[1.01] > 10,
        "Exactly: at the limit itself it swings for ever between two points.",
    )


def gradient_noise() -> Claim:
    copies, steps, rows, errors = 4096, 2000, [], []
    settled = {}

    def squares(rate, **changes):
        """Mean square over the copies, at each step."""
        path = surfaces.paths(
            _quadratic(*[1.0] * copies), np.ones(copies), steps, [rate], noise=1.0, **changes
        )
        return (path[0] ** 2).mean(1)

    for rate in (0.3, 0.1, 0.03, 0.01):
        cells = []
        for name, momentum in (("sgd", 0.0), ("momentum", 0.9)):
            theory = measures.settled_square(rate, momentum)
            settled[name, rate] = squares(rate, optimizer__name=name, optimizer__momentum=momentum)
            found = settled[name, rate][steps // 2 :].mean()
            errors.append(abs(found / theory - 1))
            cells += [f"{theory:.4f}", f"{found:.4f}"]
        rows.append([f"constant {rate:g}", *cells])
    falling = {
        name: squares(0.1, optimizer__name="sgd", schedule__name=name)
        for name in ("cosine", "linear")
    }
    for name, found in falling.items():
        rows.append([f"{name} from 0.1", "", f"{found[-1]:.4f}", "", ""])

    def draw(axis):
        curves = {f"constant {rate:g}": settled["sgd", rate] for rate in (0.3, 0.1, 0.01)}
        curves |= {f"{name} from 0.1": found for name, found in falling.items()}
        for color, (name, found) in zip(COLORS, curves.items(), strict=False):
            axis.plot(found, color=color, label=name, linewidth=1.5)
        axis.set(xlabel="step", ylabel="mean square distance", yscale="log", title="`sgd`"[1:-1])

    return Claim(
        "Noise keeps SGD at a distance that grows with the learning rate; a falling rate ends "
        "nearer",
        "Lecture, section 6; Mandt et al., 2017",
        f"w^2 / 2 with N(0, 1) on its gradient, {copies} copies from 1: the mean square distance "
        f"over the later half of {steps} steps, and at the end where the rate falls. Theory: "
        "rate (1 + m) / ((1 - m) (2 (1 + m) - rate)), m the momentum, here 0 and .9.",
        [["Rate", "SGD, theory", "Measured", "Momentum, theory", "Measured"], *rows],
        max(errors) < 0.05 and max(found[-1] for found in falling.values()) < 0.5 * 0.1 / 1.9,
        f"To {percent(max(errors))}. Momentum of .9 is as noisy as ten times the rate. From .1 the "
        f"cosine ends at {falling['cosine'][-1]:.4f} and comes there as soon as a rate of .1; a "
        "constant .01 is as near only after ten times as many steps.",
        pictures.panels([draw]),
    )


def saddles_by_dimension() -> Claim:
    random, rows, shares, errors = np.random.default_rng(0), [], {}, []
    exact = {1: (1 / 2, 1 / 2), 2: (0.25 * (2 - 2**0.5), 1 / 4),
             3: ((np.pi - 8**0.5) / (4 * np.pi), (29 - 6 * 6**0.5) / 116)}  # fmt: skip
    for d in (1, 2, 3, 4, 5, 8, 16):
        eigenvalues = measures.orthogonal_ensemble(random, 400_000 if d <= 5 else 20_000, d)
        positive = (eigenvalues[:, 0] > 0).mean() if d <= 5 else None
        by_index = measures.shares_by_index(
            measures.orthogonal_ensemble(random, 400_000 if d <= 5 else 20_000, d + 1)
        )
        met = _minima_met(d) if d <= 3 else None
        shares[d] = positive, by_index[0], met
        theory = exact.get(d, ("", ""))
        if d in exact:
            errors += [positive / theory[0] - 1, by_index[0] / theory[1] - 1]
        rows.append([d, *(_short(x) for x in (theory[0], positive, theory[1], by_index[0], met))])
    dimension = 8
    heights, negative = _critical_points(dimension)
    slope = np.corrcoef(heights, negative)[0, 1]

    def draw_shares(axis):
        for column, (name, marker) in enumerate(
            [
                ("random matrices", "o"),
                ("critical points, by theory", "s"),
                ("critical points, found", "x"),
            ]  # fmt: skip
        ):
            there = [d for d in shares if shares[d][column]]
            y = [shares[d][column] for d in there]
            style = {
                "color": COLORS[column],
                "marker": marker,
                "linestyle": "--" if column else "-",
            }
            axis.plot(there, y, label=name, **style)
        axis.set(xlabel="dimension", ylabel="share without a falling direction", yscale="log",
                 title="Minima become rare")  # fmt: skip

    def draw_heights(axis):
        jitter = random.uniform(-0.02, 0.02, len(negative))
        axis.plot(heights, negative + jitter, ".", color=COLORS[0], alpha=0.4, label="found")
        line = np.linspace(heights.min(), heights.max(), 100)
        theory = measures.semicircle_below(line / (2 * np.sqrt(dimension)))
        axis.plot(line, theory, color=COLORS[1], label="semicircle (many dimensions)")
        axis.set(xlabel="height of the critical point (deviations)",
                 ylabel="share of falling directions",
                 title=f"The lower, the fewer ({dimension} dimensions)")  # fmt: skip

    return Claim(
        "In many dimensions critical points are saddles: some directions rise, some fall",
        "Lecture, section 6; Bray and Dean, 2007; Dauphin et al., 2014",
        "P(no falling direction): of random symmetric matrices (Gaussian orthogonal ensemble), and "
        "of the critical points of an isotropic Gaussian field, by theory through random matrices, "
        "and as Newton's method finds them in sums of 256 cosines, in a cube that is searched whole.",
        [
            ["Dimension", "Matrices, exact", "Measured", "Minima, exact", "By matrices", "Found"],
            *rows,
        ],  # fmt: skip
        np.max(np.abs(errors)) < 0.05 and slope > 0.3,
        f"At a random place a Hessian without a falling direction becomes rare like 3^(-d^2 / 4); "
        f"minima among critical points only like an exponential: {shares[16][1]:.0e} in 16 "
        "dimensions. And height tells them: of the critical points found in "
        f"{dimension} dimensions the lower have fewer falling directions (correlation "
        f"{slope:.2f}), so that what is low is nearly a minimum.",
        pictures.panels([draw_shares, draw_heights]),
    )


def _minima_met(dimension: int) -> float:
    """The share of minima among all critical points of some fields in a cube."""
    fields, side, starts = {1: (30, 60.0, 2000), 2: (30, 14.0, 3000), 3: (30, 6.0, 3000)}[dimension]
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

    for name in _TAUGHT:
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
        theory = measures.escape(name, rate, 1e-6) if name in _TAUGHT[:3] else ""
        rows.append([f"`{name}`", *cells, theory and f"{theory:.0f}"])

    def drawing(case):
        def draw(axis):
            for color, name in zip(COLORS, _TAUGHT, strict=False):
                way = ways[name, case]
                axis.plot(way[: np.argmax(way > 3) or None], color=color, label=name)
            axis.set(xlabel="step", ylabel="distance from the ridge", xscale="log", yscale="log",
                     title=f"from {case}")  # fmt: skip

        return draw

    adaptive = max(found[name, "1e-6"] for name in ("rmsprop", "adam"))
    errors = [abs(found[name, "1e-6"] / measures.escape(name, rate, 1e-6) - 1)
              for name in _TAUGHT[:3]]  # fmt: skip
    return Claim(
        "Gradients vanish near a saddle: SGD stays long, noise and momentum help, adaptive rates "
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
        "each factor by which it starts nearer, momentum a tenth of them; RMSProp and Adam divide "
        f"the small gradient by its own size: {found['rmsprop', '1e-6']:.0f} and "
        f"{found['adam', '1e-6']:.0f} steps from 1e-6.",
        pictures.panels([drawing("1e-6"), drawing("0, noise")]),
    )


def curvature_of_a_net() -> Claim:
    net = Net(
        {
            "batch_size": 1302,
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
    model = models.build(net.run.config, net.start().hyperparameters, net.run.classes)

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

    least = min((key for key in found), key=lambda key: found[key][0])
    return Claim(
        "Where a network's gradient is small some directions still fall: it is a saddle",
        "Lecture, section 6; Dauphin et al., 2014; Sagun et al., 2017",
        "16-16-10, tanh, on 16 principal components of digits, plain descent by all of train; "
        "eigenvalues of the whole Hessian by `jax.hessian`. Falling: below -.001 of the largest; "
        "flat: smaller than that. Weights as usual, and a hundredth of it.",
        [["Weights", "Step", "Loss", "Gradient", "Falling", "Flat", "Least", "Largest"], *rows],
        all(share > 0 for _, share, _ in found.values()),
        f"The smallest gradient is {found[least][0]:.1e}, after {least[1]} steps with weights "
        f"x {least[0]:g}: {percent(found[least][1])} of the directions fall.",
        pictures.panels([draw]),
    )


def _quadratic(*curvatures: float):
    curvatures = jnp.asarray(curvatures, jnp.float32)
    return lambda w: (curvatures * w**2).sum() / 2


def _short(value) -> str:
    return "" if value is None or value == "" else f"{value:.3g}"
