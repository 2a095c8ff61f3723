"""Section 6: optimisers and schedules."""

import jax
import numpy as np

from benchmarks.claims import pictures, statistics
from benchmarks.claims.common import CHOOSING, SEEDS, Claim, Net, percent, rates, stacked
from research import optimizers
from research.config import default_config
from research.names import public_functions
from research.optimizers import algorithms, schedules
from research.reporting.plots import COLORS
from research.training import hyperparameters

TITLE = "Optimisers and schedules"
_NET = {"batch_size": 64, "duration": "6 epochs", "model.hidden": (64, 64)}
_GRID = rates(1e-4, 300, 27)
_CASES = {
    "SAM": {"optimizer.sam_radius": 0.05},
    "lookahead": {"optimizer.lookahead_steps": 5},
    "clipping": {"optimizer.clip_norm": 1.0},
    "clipping (AGC)": {"optimizer.clip_adaptive": 0.01},
    "weight decay": {"optimizer.weight_decay": 0.1},
}


def all_optimizers() -> Claim:
    names = [name for name in public_functions(algorithms) if name != "lbfgs"]
    cases = {f"`{name}`": {"optimizer.name": name} for name in names}
    cases |= {
        f"`nesterov` with {what}": {"optimizer.name": "nesterov"} | of
        for what, of in _CASES.items()
    }
    rows, losses, chosen = [], {}, {}
    for case, changes in cases.items():
        net = Net(_NET | changes)
        rate = net.best("optimizer__learning_rate", _GRID, "loss", "train")
        chosen[case] = rate, _GRID
        states = [net.train(seed=seed, optimizer__learning_rate=rate)[0] for seed in SEEDS]
        losses[case] = stacked([net.score(state, "train") for state in states])["loss"]
        test = stacked([net.score(state) for state in states])["accuracy"]
        loss = f"{losses[case].mean():.5f} +- {losses[case].std(ddof=1):.5f}"
        rows.append([case, rate, loss, percent(test)])
    plain = losses["`sgd`"]
    found = statistics.judged(
        {case: plain - each for case, each in losses.items() if case != "`sgd`"}
    )
    for row in rows:
        row.insert(3, found[row[0]].cell(5, 1) if row[0] in found else "")
    rows.sort(key=lambda row: losses[row[0]].mean())
    told = [
        f"{word}: {', '.join(statistics.rows(found, word)) or 'none'}"
        for word in (statistics.BETTER, statistics.WORSE, statistics.INCONCLUSIVE)
    ]
    return Claim(
        "At its best rate each fancier optimiser trains the same net faster than SGD",
        "Lecture, section 6",
        "64-64-64-10 with batch norm on digits, 6 epochs of batch 64, cosine schedule, each at the "
        f"best of {len(_GRID)} rates from {_GRID[0]:g} to {_GRID[-1]:g} by the loss on train, "
        "which is judged too, ten seeds; in its order. How far ahead of SGD, 95 % interval.",
        [["Optimiser", "Rate", "Train loss", "Ahead of SGD", "Test accuracy"], *rows],
        statistics.together(found),
        f"Plain SGD, at its best rate: {plain.mean():.5f}. Beside it {'; '.join(told)}. All "
        "settings but the rate are the defaults. L-BFGS is for full batches (below)."
        + statistics.edges(chosen),
    )


def all_schedules() -> Claim:
    config = default_config()
    config.duration, config.schedule.final = "1000 steps", 0.01
    rows, scores, curves, chosen, grid = [], {}, {}, {}, rates(0.01, 10, 13)
    cases = {name: {"schedule.name": name} for name in public_functions(schedules)}
    cases["inverse_sqrt"]["schedule.warmup"] = "10 percent"  # which it needs
    cases["constant after warm-up"] = {"schedule.name": "constant", "schedule.warmup": "10 percent"}
    cases["cosine after warm-up"] = {"schedule.name": "cosine", "schedule.warmup": "10 percent"}
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
        rate = net.best("optimizer__learning_rate", grid, "loss")
        chosen[f"`{case}`"] = rate, grid
        scores[case] = net.scores(optimizer__learning_rate=rate)
        loss = f"{scores[case]['loss'].mean():.3f} +- {scores[case]['loss'].std(ddof=1):.3f}"
        cells = " ".join(f"{value:.2g}" for value in curve)
        rows.append([f"`{case}`", rate, cells, percent(scores[case]["accuracy"]), loss])
    losses, names = {case: each["loss"] for case, each in scores.items()}, list(curves)
    falling = [case for case in losses if not case.startswith(("constant", "plateau"))]
    found = statistics.judged({case: losses["constant"] - losses[case] for case in falling})
    for row, case in zip(rows, scores, strict=True):
        row.append(found[case].cell(3, 1) if case in found else "")
    told = [
        f"{word}: {', '.join(f'`{case}`' for case in statistics.rows(found, word)) or 'none'}"
        for word in (statistics.BETTER, statistics.WORSE, statistics.INCONCLUSIVE)
    ]
    return Claim(
        "A learning rate that falls ends at a better place than a constant one",
        "Lecture, section 6",
        "64-64-64-10 with batch norm on digits, Nesterov momentum, 10 epochs, the best of "
        f"{len(grid)} rates by validation loss, ten seeds; a better place has a smaller test loss: "
        "how much smaller, with its 95 % interval. Factor on the rate at 0, 10, 25, 50, 75 and 100 "
        "% of the training, with `schedule.final` = .01 (plateau: as if the loss always fell).",
        [["Schedule", "Rate", "Factor", "Test accuracy", "Test loss", "Smaller by"], *rows],
        statistics.together(found),
        f"Test loss of a constant rate: {losses['constant'].mean():.3f}. Falling rates are "
        f"{'; '.join(told)}." + statistics.edges(chosen),
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
    steps, rows, nets, paths, chosen, grid = 40, [], {}, {}, {}, rates(1e-3, 10, 17)
    for name in ("sgd", "nesterov", "adam", "lbfgs"):
        nets[name] = net = Net(
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
        rate = 1.0
        if name != "lbfgs":
            ends = {rate: _descent(net, CHOOSING, rate)[0][:, -1].mean() for rate in grid}
            rate = min(grid, key=lambda rate: np.nan_to_num(ends[rate], nan=np.inf))
            chosen[f"`{name}`"] = rate, grid
        paths[name], test = _descent(net, SEEDS, rate)
        losses = paths[name][:, -1]
        loss = f"{losses.mean():.4f} +- {losses.std(ddof=1):.4f}"
        rows.append([f"`{name}`", rate if name != "lbfgs" else "", loss, percent(test)])
    ends = {name: path[:, -1] for name, path in paths.items()}
    others = [name for name in nets if name != "lbfgs"]
    best = min(others, key=lambda name: ends[name].mean())
    there = paths["lbfgs"] <= ends[best][:, None]
    needed = np.where(there.any(1), there.argmax(1), steps)
    found = statistics.judged(
        {name: ends[name] - ends["lbfgs"] for name in others} | {"few": steps / 2 - needed}
    )
    for row, name in zip(rows, nets, strict=True):
        row.insert(3, found[name].cell(4, 1) if name in found else "")
    mean, low, high = statistics.interval(needed)
    return Claim(
        "With all data in a batch, L-BFGS needs few steps and no learning rate",
        "Lecture, section 6; Liu and Nocedal, 1989",
        f"64-32-10, tanh, L2 1e-3, on digits: {steps} steps over all of train, the first-order "
        f"rules at the best of {len(grid)} rates by the same loss with penalty, L-BFGS by its line "
        "search (which costs some evaluations a step), ten seeds. How far L-BFGS is ahead, with "
        "its 95 % interval. Few: at most half of the steps, to where the best other rule ends.",
        [["Optimiser", "Rate", "Loss with penalty", "L-BFGS is ahead by", "Test accuracy"], *rows],
        statistics.together(found),
        f"What is minimised is {ends['lbfgs'].mean():.4f} after {steps} steps, by `{best}` "
        f"{ends[best].mean():.4f}; L-BFGS is there after {mean:.1f} ({low:.1f} to {high:.1f}) "
        "steps." + statistics.edges(chosen),
    )


def _descent(net: Net, seeds, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """The loss with its penalty before each step, (seeds, steps), and the test accuracies."""
    paths, accuracies = [], []
    for seed in seeds:
        state, losses = net.start(seed=seed, optimizer__learning_rate=rate), []
        for _ in range(net.steps):
            state, metrics = net.train(1, state)
            losses.append(float(metrics.loss))
        paths.append(losses)
        accuracies.append(net.score(state)["accuracy"])
    return np.array(paths), np.array(accuracies)
