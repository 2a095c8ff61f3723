"""Section 7: regularisation, where data are few."""

import numpy as np

from benchmarks.claims.common import Claim, Net, percent
from research.training import ensembles, evaluation

TITLE = "Regularisation"
_SEEDS = (1, 2, 3, 4, 5)
_FEW = {
    "data.validation": 0.8,  # 288 images are left
    "batch_size": 32,
    "duration": "60 epochs",
    "model.hidden": (128, 128),
    "model.normalization": "none",
    "optimizer.learning_rate": 1e-3,
}
# What is switched on, the number that says how strongly, and the strengths to choose from.
_WAYS = {
    "L1": ({}, "loss__l1", (1e-5, 1e-4, 1e-3)),
    "L2": ({}, "loss__l2", (1e-4, 1e-3, 1e-2)),
    "elastic net": ({"loss.l1": 1e-4}, "loss__l2", (1e-4, 1e-3, 1e-2)),
    "decoupled decay": ({}, "optimizer__weight_decay", (0.1, 1.0, 10.0)),
    "max-norm": ({}, "optimizer__max_norm", (1.0, 2.0, 4.0)),
    "dropout": ({}, "model__dropout_rate", (0.2, 0.4, 0.6)),
    "dropout of inputs": ({}, "model__input_dropout_rate", (0.1, 0.2, 0.4)),
    "DropConnect": ({}, "model__dropconnect_rate", (0.2, 0.4, 0.6)),
    "label smoothing": ({}, "loss__label_smoothing", (0.03, 0.1, 0.3)),
    "noise": ({"augmentation.names": ("noise",)}, "augmentation__noise", (0.05, 0.15, 0.3)),
    "cutout": ({"augmentation.names": ("cutout",)}, "augmentation__cutout_size", (2.0, 3.0, 4.0)),
    "crops of 1 pixel": (
        {"augmentation.names": ("crop",), "augmentation.crop_padding": 1},
        "optimizer__learning_rate",
        (2e-3, 4e-3, 8e-3),
    ),
    "mixup": ({"augmentation.mixing": "mixup"}, "augmentation__mixup_alpha", (0.1, 0.4, 1.0)),
    "cutmix": ({"augmentation.mixing": "cutmix"}, "augmentation__cutmix_alpha", (0.2, 0.5, 1.0)),
    "SAM": ({}, "optimizer__sam_radius", (0.02, 0.1, 0.5)),
    "batch norm": (
        {"model.normalization": "batch_norm"},
        "optimizer__learning_rate",
        (1e-3, 3e-3, 1e-2),
    ),
}


def few_data() -> Claim:
    plain = Net(_FEW)
    rate = plain.best("optimizer__learning_rate", (2e-3, 4e-3, 8e-3))
    base = _FEW | {"optimizer.learning_rate": rate}
    states = [plain.train(seed=seed, optimizer__learning_rate=rate)[0] for seed in _SEEDS]
    scores = {"none": [plain.score(state) for state in states]}
    rows = {"none": rate}
    logits, labels = _logits(plain, states)
    for way, (changes, key, strengths) in _WAYS.items():
        switched_on = {key.replace("__", "."): strengths[0]}
        net = Net(base | changes | switched_on)
        rows[way] = net.best(key, strengths)
        scores[way] = [net.score(net.train(seed=seed, **{key: rows[way]})[0]) for seed in _SEEDS]
    for name, changes in (
        ("EMA", {"averaging.name": "ema", "averaging.decay": 0.99}),
        ("SWA", {"averaging.name": "swa", "schedule.name": "constant"}),
    ):
        net = Net(base | changes)
        rows[f"average ({name})"] = ""
        scores[f"average ({name})"] = [
            net.score(evaluation.whole_average(net.run, net.train(seed=seed)[0])) for seed in _SEEDS
        ]
    rows["early stopping"], scores["early stopping"] = (
        "",
        [_stopped_early(plain, seed, rate) for seed in _SEEDS],
    )
    snapped = Net(base | {"schedule.name": "cosine_restarts", "schedule.cycles": 5.0})
    rows["five snapshots, averaged"], scores["five snapshots, averaged"] = (
        "",
        [ensembles.figures(*_logits(snapped, _snapshots(snapped, 5, seed))) for seed in _SEEDS],
    )
    combined = ensembles.figures(logits, labels)
    table = []
    for way, each in scores.items():
        accuracy, loss = (np.array([one[name] for one in each]) for name in ("accuracy", "loss"))
        loss = f"{loss.mean():.3f} +- {loss.std(ddof=1):.3f}"
        table.append([way, rows[way], percent(accuracy), loss])
    means = {way: np.mean([one["accuracy"] for one in each]) for way, each in scores.items()}
    losses = {way: np.mean([one["loss"] for one in each]) for way, each in scores.items()}
    table.append(
        ["ensemble of the five `none`", "", percent(combined["accuracy"]), combined["loss"]]
    )
    better = [way for way in means if means[way] > means["none"] + 0.005]
    worse = [way for way in means if means[way] < means["none"] - 0.005]
    calmer = sum(losses[way] < losses["none"] for way in losses)
    return Claim(
        "Where data are few, regularisation improves what is seen on test",
        "Lecture, section 7",
        f"64-128-128-10 on {len(plain.run.train)} of the digits, no normaliser, Adam, 60 epochs; "
        "rate and strength each chosen of three on validation (the rest of train); five seeds.",
        [["What", "Strength", "Test accuracy", "Log loss"], *table],
        f"Holds for {len(better)} of {len(means) - 1} in accuracy, for {calmer} in log loss",
        f"More than half a point better than none ({percent(means['none'])}): "
        f"{', '.join(better) or 'none'}; worse by as much: {', '.join(worse) or 'none'}. Averaging "
        f"the predictions of five nets: {percent(combined['accuracy'])}.",
    )


def _snapshots(net: Net, count: int, seed: int):
    """The state at the end of each cycle of one training; used up when the next is asked for."""
    state = net.start(seed=seed)
    for end in ensembles.cycle_ends(state.hyperparameters["schedule"], count):
        state, _ = net.train(end - int(state.step), state)
        yield state


def _logits(net: Net, states) -> tuple[np.ndarray, np.ndarray]:
    """Of all states, (members, N, classes), and the labels, over test."""
    each = [
        evaluation.predict_each(net.run.config, net.run.classes, state, net.run.test)
        for state in states
    ]
    return np.concatenate([logits for logits, _ in each]), each[0][1]


def _stopped_early(net: Net, seed: int, rate: float) -> dict:
    """The test score where the validation loss was lowest, looked at after each epoch."""
    steps = max(1, round(len(net.run.train) / net.run.config.batch_size))
    state, best = net.start(seed=seed, optimizer__learning_rate=rate), (np.inf, None)
    while int(state.step) < net.steps:
        state, _ = net.train(steps, state)
        loss = net.score(state, "validation")["loss"]
        if loss < best[0]:
            best = loss, net.score(state)
    return best[1]
