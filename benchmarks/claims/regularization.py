"""Section 7: regularisation, where data are few."""

import functools

import numpy as np

from benchmarks.claims import statistics
from benchmarks.claims.common import CHOOSING, SEEDS, Claim, Net, percent, ranked, stacked
from research.training import ensembles, evaluation

TITLE = "Regularisation"
_FEW = {
    "data.validation": 0.8,  # 288 images are left
    "batch_size": 32,
    "duration": "60 epochs",
    "model.hidden": (128, 128),
    "model.normalization": "none",
    "optimizer.learning_rate": 1e-3,
}
_RATES = (1e-3, 2e-3, 4e-3, 8e-3, 1.6e-2)
# What is switched on, the number that says how strongly, and the strengths to choose from.
_WAYS = {
    "none": ({}, "optimizer__learning_rate", _RATES),
    "L1": ({}, "loss__l1", (1e-5, 1e-4, 1e-3, 1e-2)),
    "L2": ({}, "loss__l2", (1e-4, 1e-3, 1e-2, 1e-1)),
    "elastic net": ({"loss.l1": 1e-4}, "loss__l2", (1e-5, 1e-4, 1e-3, 1e-2)),
    "decoupled decay": ({}, "optimizer__weight_decay", (0.03, 0.1, 0.3, 1.0, 3.0)),
    "max-norm": ({}, "optimizer__max_norm", (0.5, 1.0, 2.0, 4.0)),
    "dropout": ({}, "model__dropout_rate", (0.1, 0.2, 0.4, 0.6)),
    "dropout of inputs": ({}, "model__input_dropout_rate", (0.05, 0.1, 0.2, 0.4)),
    "DropConnect": ({}, "model__dropconnect_rate", (0.1, 0.2, 0.4, 0.6)),
    "label smoothing": ({}, "loss__label_smoothing", (0.01, 0.03, 0.1, 0.3)),
    "noise": ({"augmentation.names": ("noise",)}, "augmentation__noise", (0.1, 0.2, 0.4, 0.6)),
    "cutout": (
        {"augmentation.names": ("cutout",)},
        "augmentation__cutout_size",
        (1.0, 2.0, 3.0, 4.0, 5.0),
    ),
    "crops of 1 pixel": (
        {"augmentation.names": ("crop",), "augmentation.crop_padding": 1},
        "optimizer__learning_rate",
        _RATES,
    ),
    "mixup": ({"augmentation.mixing": "mixup"}, "augmentation__mixup_alpha", (0.1, 0.2, 0.4, 1.0)),
    "cutmix": (
        {"augmentation.mixing": "cutmix"},
        "augmentation__cutmix_alpha",
        (0.05, 0.1, 0.2, 0.5),
    ),
    "SAM": ({}, "optimizer__sam_radius", (0.02, 0.05, 0.1, 0.2, 0.5)),
    "batch norm": (
        {"model.normalization": "batch_norm"},
        "optimizer__learning_rate",
        _RATES,
    ),
}
# What has no strength.
_OTHERS = {
    "average (EMA)": {"averaging.name": "ema", "averaging.decay": 0.99},
    "average (SWA)": {"averaging.name": "swa", "schedule.name": "constant"},
    "early stopping": {},
    "five snapshots": {"schedule.name": "cosine_restarts", "schedule.cycles": 5.0},
    "ensemble of five": {},
}
_METRICS = ("accuracy", "loss")


def few_data() -> Claim:
    measured = {metric: _measured(metric) for metric in _METRICS}
    scores = {metric: each for metric, (each, _) in measured.items()}
    ways = [way for way in scores["loss"] if way != "none"]
    found = statistics.judged(
        {("accuracy", way): scores["accuracy"][way] - scores["accuracy"]["none"] for way in ways}
        | {("loss", way): scores["loss"]["none"] - scores["loss"][way] for way in ways}
    )
    by_metric = {metric: {way: found[metric, way] for way in ways} for metric in _METRICS}
    table = []
    for way in scores["loss"]:
        loss = scores["loss"][way]
        shown = {
            "accuracy": percent(scores["accuracy"][way]),
            "loss": f"{loss.mean():.3f} +- {loss.std(ddof=1):.3f}",
        }
        row = [way]
        for metric, (digits, unit) in {"accuracy": (1, 100), "loss": (3, 1)}.items():
            strength = measured[metric][1].get(way, ("",))[0]
            gain = by_metric[metric][way].cell(digits, unit) if way in ways else ""
            row += [strength, shown[metric], gain]
        table.append(row)
    told = [
        f"In {name}, {word}: {', '.join(statistics.rows(by_metric[metric], word)) or 'none'}."
        for metric, name in (("accuracy", "accuracy"), ("loss", "log loss"))
        for word in (statistics.BETTER, statistics.WORSE)
    ]
    edges = {
        f"{way} by {metric}": chosen
        for metric, (_, tuned) in measured.items()
        for way, chosen in tuned.items()
    }
    verdicts = [statistics.together(by_metric[metric]) for metric in _METRICS]
    return Claim(
        "Where data are few, regularisation improves what is seen on test",
        "Lecture, section 7",
        f"64-128-128-10 on {len(_net('none').run.train)} of the digits, no normaliser, Adam, 60 "
        f"epochs; ten draws of the training images, each with its own seed. Of {len(_RATES)} rates "
        "the best without regularisation is taken for all; it and the strength are chosen on "
        "validation (the rest of train) of three other draws: by accuracy where accuracy is "
        "judged, by log loss where that is (of none, crops and batch norm the strength is the "
        "rate). What each way gains on none, with its 95 % interval.",
        [["What", "Strength", "Test accuracy", "Gain", "Strength", "Log loss", "Less by"], *table],
        verdicts[0]
        if verdicts[0] == verdicts[1]
        else f"{verdicts[0]} in accuracy; {verdicts[1][0].lower()}{verdicts[1][1:]} in log loss",
        f"None has {percent(scores['accuracy']['none'])}. {' '.join(told)}"
        + statistics.edges(edges),
    )  # fmt: skip


@functools.cache
def _net(way: str) -> Net:
    if way in _OTHERS:
        return Net(_FEW | _OTHERS[way])
    changes, key, strengths = _WAYS[way]
    return Net(_FEW | changes | {key.replace("__", "."): strengths[0]})


def _measured(metric: str) -> tuple[dict, dict]:
    """Test scores by a metric, rate and strengths chosen by it: {way: (draws,)}, {way: chosen}.

    What is chosen is the best, and what it was chosen from.
    """
    scores, tuned, numbers = {}, {}, {}
    for way, (_, key, strengths) in _WAYS.items():
        found = {
            each: _over_draws(_net(way), CHOOSING, "validation", **numbers | {key: each})
            for each in strengths
        }
        best = max(strengths, key=lambda each, found=found: ranked(found[each], metric))
        tuned[way] = best, strengths
        if way == "none":
            numbers = {key: best}
        scores[way] = _over_draws(_net(way), SEEDS, **numbers | {key: best})[metric]
    for way in ("average (EMA)", "average (SWA)"):
        found = _over_draws(_net(way), SEEDS, ending=evaluation.whole_average, **numbers)
        scores[way] = found[metric]
    for way, measure in (
        ("early stopping", functools.partial(_stopped_early, metric=metric)),
        ("five snapshots", _snapshots),
        ("ensemble of five", _five),
    ):
        found = [measure(_net(way).drawn(number), number, **numbers) for number in SEEDS]
        scores[way] = np.array([each[metric] for each in found])
    return scores, tuned


def _over_draws(net: Net, numbers, split="test", ending=None, **changes) -> dict:
    """{'loss', 'accuracy'} -> array (draws,): draw n is trained on with seed n.

    Args:
      net: of which the draws are.
      numbers: of the draws.
      split: what is scored.
      ending: (run, state) -> the state that is scored, if not the last.
      changes: traced numbers.
    """
    found = []
    for number in numbers:
        drawn = net.drawn(number)
        state, _ = drawn.train(seed=number, **changes)
        found.append(drawn.score(ending(drawn.run, state) if ending else state, split))
    return stacked(found)


def _snapshots(net: Net, seed: int, **numbers) -> dict:
    """What the averaged predictions at the ends of the cycles of one training are worth."""
    state, logits = net.start(seed=seed, **numbers), []
    for end in ensembles.cycle_ends(state.hyperparameters["schedule"], 5):
        state, _ = net.train(end - int(state.step), state)
        logits.append(net.logits(state))
    return _figures(net, logits)


def _five(net: Net, seed: int, **numbers) -> dict:
    """What the averaged predictions of this seed and four that no other draw has are worth."""
    seeds = (seed, *(1000 * seed + member for member in range(1, 5)))
    logits = [net.logits(net.train(seed=each, **numbers)[0]) for each in seeds]
    return _figures(net, logits)


def _figures(net: Net, logits: list[np.ndarray]) -> dict:
    """Return the test figures of the averaged predictions of networks."""
    task = net.run.task
    return task.figures(task.score(np.concatenate(logits), net.run.test.labels, {}))


def _stopped_early(net: Net, seed: int, metric: str, **numbers) -> dict:
    """The test score where validation was best by the metric, looked at after each epoch."""
    epoch = max(1, round(len(net.run.train) / net.run.config.batch_size))
    state, seen = net.start(seed=seed, **numbers), []
    while int(state.step) < net.steps:
        state, _ = net.train(min(epoch, net.steps - int(state.step)), state)
        seen.append((net.score(state, "validation"), net.score(state)))
    sign = 1 if metric == "accuracy" else -1
    return max(seen, key=lambda pair: sign * pair[0][metric])[1]
