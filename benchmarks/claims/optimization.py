"""Section 6: optimisers and schedules."""

import jax
import numpy as np

from benchmarks.claims import pictures
from benchmarks.claims.common import SEEDS, Claim, Net, percent, rates
from research import optimizers
from research.config import default_config
from research.names import public_functions
from research.optimizers import algorithms, schedules
from research.reporting.plots import COLORS
from research.training import hyperparameters

TITLE = "Optimisers and schedules"
_NET = {"batch_size": 64, "duration": "6 epochs", "model.hidden": (64, 64)}
_GRID = rates(1e-4, 30, 12)
_CASES = {
    "SAM": {"optimizer.sam_radius": 0.05},
    "lookahead": {"optimizer.lookahead_steps": 5},
    "clipped": {"optimizer.clip_norm": 1.0},
    "clipped (AGC)": {"optimizer.clip_adaptive": 0.01},
    "weight decay": {"optimizer.weight_decay": 0.1},
    "4 microbatches": {"compute.microbatches": 4},
}


def all_optimizers() -> Claim:
    names = [name for name in public_functions(algorithms) if name != "lbfgs"]
    cases = {f"`{name}`": {"optimizer.name": name} for name in names}
    cases |= {
        f"`nesterov`, {what}": {"optimizer.name": "nesterov"} | of for what, of in _CASES.items()
    }
    rows, losses, accuracies, edges = [], {}, {}, []
    for case, changes in cases.items():
        net = Net(_NET | changes)
        rate = net.best("optimizer__learning_rate", _GRID)
        if rate in (_GRID[0], _GRID[-1]):
            edges.append(case)
        states = [net.train(seed=seed, optimizer__learning_rate=rate)[0] for seed in SEEDS]
        train = [net.score(state, "train")["loss"] for state in states]
        test = [net.score(state)["accuracy"] for state in states]
        losses[case], accuracies[case] = np.mean(train), np.mean(test)
        loss = f"{np.mean(train):.4f} +- {np.std(train, ddof=1):.4f}"
        rows.append([case, rate, loss, percent(test)])
    rows.sort(key=lambda row: losses[row[0]])
    plain = losses["`sgd`"]
    ahead = [case for case in cases if losses[case] < plain]
    taught = ("`momentum`", "`nesterov`", "`adagrad`", "`rmsprop`", "`adam`")
    return Claim(
        "At its best rate each fancier optimiser trains the same net faster than SGD",
        "Lecture, section 6",
        "64-64-64-10 with batch norm on digits, 6 epochs of batch 64, cosine schedule, each at the "
        f"best of twelve rates from {_GRID[0]:g} to {_GRID[-1]:g}; in order of the loss on train.",
        [["Optimiser", "Rate", "Train loss", "Test accuracy"], *rows],
        all(case in ahead for case in taught) or f"Holds for {len(ahead)} of {len(cases) - 1}",
        f"Plain SGD, at its best rate: {plain:.4f}; ahead of it: {', '.join(ahead) or 'none'}. On "
        f"test all but a few are within {percent(np.ptp(sorted(accuracies.values())[3:]))}."
        + " Rates are chosen by validation accuracy with one seed, not by how far they train: the "
        "next rate may change a place by several, so that only large differences mean something."
        + (f" Best at the edge of the range: {', '.join(edges)}." if edges else ""),
    )


def all_schedules() -> Claim:
    config = default_config()
    config.duration, config.schedule.final = "1000 steps", 0.01
    rows, means, accuracies, curves = [], {}, {}, {}
    cases = {name: {"schedule.name": name} for name in public_functions(schedules)}
    cases["inverse_sqrt"]["schedule.warmup"] = "10 percent"  # which it needs
    cases["constant, warm-up"] = {"schedule.name": "constant", "schedule.warmup": "10 percent"}
    cases["cosine, warm-up"] = {"schedule.name": "cosine", "schedule.warmup": "10 percent"}
    for case, changes in cases.items():
        config.update_from_flattened_dict({"schedule.warmup": "0 percent"} | changes)
        numbers = hyperparameters.from_config(config, 1000)
        curves[case] = _factors(config, numbers, np.arange(1000))
        curve = curves[case][[0, 100, 250, 500, 750, 999]]
        net = Net(
            _NET
            | {"optimizer.name": "nesterov", "duration": "10 epochs", "schedule.final": 0.01}
            | changes
        )
        rate = net.best("optimizer__learning_rate", rates(0.01, 1, 5))
        found = net.scores(optimizer__learning_rate=rate)
        means[case], accuracies[case] = found["loss"].mean(), found["accuracy"].mean()
        loss = f"{means[case]:.3f} +- {found['loss'].std(ddof=1):.3f}"
        cells = " ".join(f"{value:.2g}" for value in curve)
        rows.append([f"`{case}`", rate, cells, percent(found["accuracy"]), loss])
    constant, names = means["constant"], list(curves)
    falling = [loss for case, loss in means.items() if not case.startswith(("constant", "plateau"))]
    return Claim(
        "A learning rate that falls ends at a better place than a constant one",
        "Lecture, section 6",
        "64-64-64-10 with batch norm on digits, Nesterov momentum, 10 epochs, the best of five "
        "rates. Factor on the rate at 0, 10, 25, 50, 75 and 100 % of the training, with "
        "`schedule.final` = .01 (plateau: as if the loss always fell).",
        [["Schedule", "Rate", "Factor", "Test accuracy", "Test loss"], *rows],
        max(falling) < constant
        or f"Holds in loss for {sum(loss < constant for loss in falling)} of {len(falling)}",
        f"Test loss {min(falling):.3f} to {max(falling):.3f} against {constant:.3f} of a constant "
        f"rate; the best accuracy, {percent(max(accuracies.values()))}, is that of "
        f"`{max(accuracies, key=accuracies.get)}`, a constant rate has "
        f"{percent(accuracies['constant'])}. Rates come from one seed, so neighbours in the table "
        "may well change places.",
        pictures.panels(
            [_drawing({name: curves[name] for name in half}) for half in (names[::2], names[1::2])],
            "upper right",
        ),
    )


def _factors(config, numbers, steps: np.ndarray) -> np.ndarray:
    """On the learning rate, before each of these steps."""
    factor = jax.vmap(lambda step: optimizers.learning_rate(config, numbers, step))
    return np.asarray(factor(steps)) / config.optimizer.learning_rate


def _drawing(curves: dict[str, np.ndarray]):
    def draw(axis):
        for color, (name, curve) in zip(COLORS, curves.items(), strict=False):
            axis.plot(curve, color=color, label=name)
        axis.set(xlabel="step", ylabel="factor on the learning rate", ylim=(0, 1.9))

    return draw


def full_batch() -> Claim:
    steps, rows, losses = 40, [], {}
    for name in ("sgd", "nesterov", "adam", "lbfgs"):
        net = Net(
            {
                "batch_size": 1298,
                "duration": f"{steps + 1} steps",
                "model.hidden": (32,),
                "model.activation": "tanh",
                "model.normalization": "none",
                "loss.l2": 1e-3,
                "optimizer.name": name,
                "schedule.name": "constant",
            }
        )

        def objective(seed, rate, net=net):
            state, _ = net.train(steps, seed=seed, optimizer__learning_rate=rate)
            state, sums = net.train(1, state)  # whose loss is that before it
            return float(sums["loss"]) / int(sums["count"]), net.score(state)["accuracy"]

        grid = [1.0] if name == "lbfgs" else rates(1e-3, 3, 8)
        rate = min(grid, key=lambda rate: np.nan_to_num(objective(0, rate)[0], nan=np.inf))
        found, test = zip(*(objective(seed, rate) for seed in SEEDS), strict=True)
        losses[name] = np.mean(found)
        loss = f"{losses[name]:.4f} +- {np.std(found, ddof=1):.4f}"
        rows.append([f"`{name}`", rate, loss, percent(test)])
    best = min(losses["sgd"], losses["nesterov"], losses["adam"])
    return Claim(
        "With all data in a batch, L-BFGS needs few steps and no learning rate",
        "Lecture, section 6; Liu and Nocedal, 1989",
        f"64-32-10, tanh, L2 1e-3, on digits: {steps} steps over all of train, the first-order "
        "rules "
        "at the best of eight rates, L-BFGS by its line search (which costs some evaluations a "
        "step).",
        [["Optimiser", "Rate", "Loss with penalty", "Test accuracy"], *rows],
        losses["lbfgs"] < best,
        f"What is minimised is {losses['lbfgs']:.4f} after {steps} steps, by the best of the "
        "others "
        f"{best:.4f}.",
    )
