"""Section 6: what makes descent hard, on landscapes whose shape is known."""

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.claims import measures, pictures, statistics, surfaces
from benchmarks.claims.common import Claim, percent, rates
from research.names import public_functions
from research.optimizers import algorithms
from research.reporting.plots import COLORS

TITLE = "Landscapes"
_TAUGHT = ("sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adam")
_FOR_MATRICES = ("lars", "lamb", "muon")  # on one vector: momentum, adam, adam
_RATES = rates(1e-4, 10, 26)
_STEPS = 1000
_STARTS = 9


def trajectories() -> Claim:
    names = [landscape.name for landscape in surfaces.LANDSCAPES]
    drawn, arrivals, rows, chosen = {name: {} for name in names}, {}, [], {}
    for rule in public_functions(algorithms):
        if rule in _FOR_MATRICES:
            continue
        cells = []
        for landscape, found in zip(names, _fastest(rule), strict=True):
            path, arrived, reached, rate = found
            arrivals[rule, landscape] = arrived
            if reached:
                chosen[f"`{rule}` on {landscape}"] = rate, _RATES
            some = f"{reached} of {_STARTS} ({rate:g})" if reached else "-"
            cells.append(some if np.isinf(arrived) else f"{arrived:.0f} ({rate:g})")
            if rule in _TAUGHT:
                drawn[landscape][rule] = path
        rows.append([f"`{rule}`", *cells])
    drawn = {where: {rule: paths[rule] for rule in _TAUGHT} for where, paths in drawn.items()}
    fastest = {where: min(_TAUGHT, key=lambda rule: arrivals[rule, where]) for where in names}
    mended = [
        where for where in names
        if arrivals[fastest[where], where] <= min(arrivals["sgd", where] / 2, _STEPS)
    ]  # fmt: skip
    told = ", ".join(f"{where} (`{fastest[where]}`)" for where in mended)
    kept = [where for where in names if where not in mended]
    return Claim(
        "Ravines, local minima, saddle points, plateaus and noise hold SGD up, fancier optimisers "
        "less",
        "Lecture, section 6",
        f"Functions of the plane (`benchmarks/claims/surfaces.py`), {_STEPS} steps of each rule "
        "at a constant rate, otherwise as by default. Steps until the height stays below 1 % of "
        f"that at the start, for the slowest of {_STARTS} starts (each number of the start times "
        f"N(1, .04)), at the best of {len(_RATES)} rates from {_RATES[0]:g} to {_RATES[-1]:g} (in "
        "brackets) of which no path climbs above its start; where it does not from all, from how "
        "many. Noise is N(0, 9) on each number of the gradient. In the picture contours are "
        "log-spaced, and a path ends where it has arrived, or after 100 steps. (`lars`, `lamb` and "
        "`muon` are for kernels.)",
        [["Optimiser", *names], *rows],
        not kept or f"Holds for {len(mended)} of {len(names)}",
        f"One of those taught needs at most half of plain SGD's steps on: {told or 'none'}"
        + (f"; not on: {', '.join(kept)}." if kept else ".")
        + statistics.edges(chosen),
        pictures.contours(drawn, surfaces.LANDSCAPES),
    )


def _fastest(rule: str) -> list[tuple[np.ndarray, float, int, float]]:
    """Of each landscape: a path, when the slowest arrives, how many do, at which rate.

    Rates at which a path climbs above its start are left out: those leap, and arrive by luck. Where
    none arrives from all starts (inf), it is the rate at which most do, and then ends lowest.
    """
    functions = [landscape.height for landscape in surfaces.LANDSCAPES]

    def height(w, which):
        return jax.lax.switch(which, functions, w)

    shape = len(functions), len(_RATES), _STARTS
    which, rate, start = np.indices(shape).reshape(3, -1)
    factors = 1 + 0.2 * np.random.default_rng(0).standard_normal((_STARTS, 2))
    factors[0] = 1
    starts, noise = (np.array([getattr(each, of) for each in surfaces.LANDSCAPES])
                     for of in ("start", "noise"))  # fmt: skip
    paths = surfaces.paths(
        height, starts[which] * factors[start], _STEPS, np.array(_RATES)[rate], which,
        noise=noise[which], optimizer__name=rule,
    )  # fmt: skip
    heights = surfaces.heights(height, paths, which)
    arrivals = np.array([surfaces.arrival(each) for each in heights], float)
    arrivals = np.nan_to_num(arrivals, nan=np.inf).reshape(shape)
    climbs = (heights.max(1) > 1.001 * heights[:, 0]).reshape(shape).any(2)
    lowest = np.median(heights[:, -1].reshape(shape), axis=2)
    found = []
    for here, (arrival, low, climb) in enumerate(zip(arrivals, lowest, climbs, strict=True)):
        order = np.lexsort([low, np.isinf(arrival).sum(1), arrival.max(1), climb])
        best = order[0]
        path = paths.reshape(*shape, _STEPS + 1, 2)[here, best, 0]
        end = arrival[best, 0] if np.isfinite(arrival[best, 0]) else 100
        reached = int(np.isfinite(arrival[best]).sum())
        found.append((path[: int(end) + 1], arrival[best].max(), reached, _RATES[best]))
    return found


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
        axis.set(xlabel="step", ylabel="mean square distance from the minimum", yscale="log")
        axis.set(title="SGD under noise", ylim=(1e-3, 30))

    return Claim(
        "Noise keeps SGD at a distance that grows with the learning rate; a falling rate ends "
        "nearer",
        "Lecture, section 6; Mandt et al., 2017",
        f"w^2 / 2 with N(0, 1) on its gradient, {copies} copies from 1: the mean square distance "
        f"over the later half of {steps} steps, and at the end where the rate falls. Theory: "
        "rate (1 + m) / ((1 - m) (2 (1 + m) - rate)), m the momentum, here 0 and .9.",
        [["Rate", "SGD, theory", "Measured", "Momentum, theory", "Measured"], *rows],
        max(errors) < 0.05 and max(found[-1] for found in falling.values()) < 0.5 * 0.1 / 1.9,
        f"To {percent(max(errors))}. Momentum of .9 at a rate of .01 is as noisy as SGD at .1: "
        f"{settled['momentum', 0.01][steps // 2 :].mean():.4f}. A cosine "
        f"from .1 falls at first as fast as .1 does, and ends at {falling['cosine'][-1]:.4f}, "
        f"nearer than a constant .01 ({settled['sgd', 0.01][steps // 2 :].mean():.4f}), which "
        "falls a tenth as fast.",
        pictures.panels([draw]),
    )


def _quadratic(*curvatures: float):
    curvatures = jnp.asarray(curvatures, jnp.float32)
    return lambda w: (curvatures * w**2).sum() / 2
