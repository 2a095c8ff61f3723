"""Section 4: batch normalisation and its relatives."""

import numpy as np

from benchmarks.claims.common import SEEDS, Claim, Net, percent, rates
from research.training.recalibration import recalibrate, train_and_eval_loss

TITLE = "Batch normalisation"
_CNN = {
    "data.name": "cifar10",
    "data.validation": 0.95,
    "batch_size": 64,
    "model.name": "cnn",
    "model.channels": (8, 16, 32),
}
_MLP = {"data.name": "mnist", "data.validation": 0.9, "model.hidden": (64, 64)}


def initial_scale() -> Claim:
    scales = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    rows, spans = [], {}
    for normalization in ("none", "batch_norm"):
        net = Net({"model.hidden": (64,) * 3, "model.normalization": normalization})
        rate = net.best("optimizer__learning_rate", rates(1e-3, 3e-2, 4))
        numbers = {"optimizer__learning_rate": rate}
        found = [
            net.scores(model__initializer_scale=scale, **numbers)["accuracy"] for scale in scales
        ]
        spans[normalization] = np.ptp([one.mean() for one in found])
        rows.append([f"`{normalization}`", rate, *map(percent, found)])
    return Claim(
        "Batch norm makes the result depend less on the size of the initial weights",
        "Lecture, section 4; Ioffe and Szegedy, 2015, section 3.3",
        "Three hidden layers of 64 ReLU on digits, Adam, 20 epochs at the best of four rates for "
        "He "
        "weights; test accuracy when these are multiplied.",
        [["Normaliser", "Rate", *(f"x {scale:g}" for scale in scales)], *rows],
        spans["batch_norm"] < 0.5 * spans["none"],
        f"Over three orders of magnitude accuracy changes by {percent(spans['none'])} without and "
        f"{percent(spans['batch_norm'])} with batch norm.",
    )


def running_statistics() -> Claim:
    rows, gaps = [], {}
    net = Net(_MLP | {"optimizer.learning_rate": 0.03, "schedule.name": "constant"})
    for steps in (5, 20, 100):
        for decay in (0.9, 0.99):
            before, after = [], []
            for seed in SEEDS:
                state, _ = net.train(steps, seed=seed, model__batch_norm_decay=decay)
                batch = net.run.train.subset(np.arange(128))
                settled = recalibrate(net.run.config, net.run.classes, state, net.run.train)
                for gap, one in ((before, state), (after, settled)):
                    pair = train_and_eval_loss(net.run.config, net.run.classes, one, batch)
                    gap.append((pair[0], abs(pair[1] - pair[0])))
            gaps[steps, decay] = [np.mean([gap for _, gap in each]) for each in (before, after)]
            by_batch = np.mean([loss for loss, _ in before])
            rows.append(
                [steps, decay, *(f"{value:.4f}" for value in (by_batch, *gaps[steps, decay]))]
            )
    early, late = gaps[5, 0.99], gaps[100, 0.9]
    return Claim(
        "Running statistics make train and evaluation loss of one batch differ; recalibration "
        "mends "
        "it",
        "Lecture, section 4",
        "784-64-64-10 on 6,000 images of MNIST, Adam at a constant rate of .03; one batch of 128, "
        "normalised by itself and by running statistics, mean of three seeds.",
        [["Steps", "Decay", "Loss by the batch", "Difference", "Recalibrated"], *rows],
        early[1] < 0.5 * early[0],
        f"After 5 steps at decay .99 the difference is {early[0]:.3f}, recalibrated "
        f"{early[1]:.3f}; "
        f"after 100 at .9 {late[0]:.3f} and {late[1]:.3f}. What is left is that the batch is not "
        "all of train.",
    )


def stable_rates() -> Claim:
    grid = [2.0**power for power in range(-7, 8)]
    rows, ratios = [], []
    for what, changes, steps in (("MLP on MNIST", _MLP, 200), ("CNN on CIFAR-10", _CNN, 200)):
        widest = {}
        for normalization in ("none", "batch_norm"):
            net = Net(
                changes
                | {
                    "duration": f"{steps} steps",
                    "model.normalization": normalization,
                    "optimizer.name": "sgd",
                    "schedule.name": "constant",
                }
            )
            stable = []
            for rate in grid:
                state, _ = net.train(steps - 50, optimizer__learning_rate=rate)
                _, sums = net.train(50, state)
                loss = float(sums["loss"]) / int(sums["count"])
                if not loss < 0.9 * np.log(10):
                    if stable:
                        break
                    continue
                stable.append(rate)
            widest[normalization] = stable[-1]
        ratios.append(widest["batch_norm"] / widest["none"])
        rows.append([what, widest["none"], widest["batch_norm"], f"{ratios[-1]:g}"])
    return Claim(
        "Batch norm allows larger learning rates",
        "Lecture, section 4; Ioffe and Szegedy, 2015, section 4.2",
        "SGD of 200 steps: the largest rate, of powers of 2 up to 128, up to which the mean "
        "training "
        "loss of the last 50 steps is below .9 log 10. (784-64-64-10; 8-16-32 channels.)",
        [["Net", "Without", "With batch norm", "Ratio"], *rows],
        min(ratios) > 2,
        f"{ratios[0]:g} and {ratios[1]:g} times as large"
        + (", as far as looked" if any(row[2] == grid[-1] for row in rows) else "")
        + ". A step of a normalised layer only turns its weights, and makes them longer, which "
        "makes the next step smaller.",
    )


def faster_convergence() -> Claim:
    every, most, wanted = 20, 1500, 0.95
    rows, found = [], {}
    for normalization in ("none", "batch_norm"):
        net = Net(
            _MLP
            | {
                "duration": f"{most} steps",
                "model.activation": "sigmoid",
                "model.hidden": (64, 64, 64),
                "model.normalization": normalization,
                "model.initializer": "xavier_normal",
                "optimizer.name": "momentum",
                "schedule.name": "constant",
            }
        )
        reached = {}
        for rate in rates(0.01, 3, 6):
            state = net.start(optimizer__learning_rate=rate)
            for step in range(every, min(reached.values(), default=most) + 1, every):
                state, sums = net.train(every, state)
                if int(sums["correct"]) / int(sums["count"]) >= wanted:
                    reached[rate] = step
                    break
        rate = min(reached, key=reached.get, default=None)
        found[normalization] = rate, reached.get(rate, most)
        rows.append([f"`{normalization}`", rate, found[normalization][1]])
    (slow_rate, slow), (fast_rate, fast) = found["none"], found["batch_norm"]
    never = slow_rate is None
    return Claim(
        "Batch norm trains in a fraction of the steps (Inception: 1/14 at 5 times the rate)",
        "Lecture, section 4; Ioffe and Szegedy, 2015, section 4.2.2",
        "Three hidden layers of 64 sigmoid units (as in section 4.1 of the paper) on 6,000 images "
        "of MNIST, momentum: steps until 20 of them have 95 % train accuracy, at the fastest of "
        "six "
        "rates.",
        [["Normaliser", "Rate", "Steps"], *rows],
        fast < 0.5 * slow,
        f"{'More than ' if never else ''}{slow / fast:.1f} times fewer steps"
        + ("." if never else f", at {fast_rate / slow_rate:.1f} times the rate."),
    )


def ghost_batches() -> Claim:
    rows, means = [], {}
    for size in (0, 128, 32, 8, 4):
        net = Net(
            _MLP
            | {
                "batch_size": 512,
                "duration": "15 epochs",
                "model.ghost_batch_size": size,
                "optimizer.learning_rate": 0.01,
            }
        )
        trained = [net.train(seed=seed)[0] for seed in SEEDS]
        test, train = (
            [net.score(state, split) for state in trained] for split in ("test", "train")
        )
        means[size] = np.mean([one["accuracy"] for one in test])
        losses = [np.mean([one["loss"] for one in each]) for each in (train, test)]
        accuracy = percent([one["accuracy"] for one in test], 2)
        rows.append([size or "all 512", accuracy, *(f"{loss:.4f}" for loss in losses)])
    gaps = [float(row[3]) - float(row[2]) for row in rows]
    best = max(means, key=means.get)
    return Claim(
        "Batch norm regularises: statistics of smaller parts of the batch close the gap to test",
        "Lecture, section 4; Hoffer et al., 2017",
        "784-64-64-10 on 6,000 images of MNIST, batches of 512, Adam, 15 epochs.",
        [["Ghost batch", "Test accuracy", "Train loss", "Test loss"], *rows],
        min(gaps[2:]) < 0.9 * gaps[0] and (means[best] > means[0] or "Holds for the loss"),
        f"The gap in loss is {gaps[0]:.3f} by all 512 and {min(gaps):.3f} at the smallest; "
        "accuracy "
        f"is best with parts of {best or 512}: {percent(means[best], 2)} against "
        f"{percent(means[0], 2)}.",
    )


def relatives() -> Claim:
    names = ("none", "batch_norm", "layer_norm", "group_norm", "instance_norm")
    cases = {f"`{name}`": {"model.normalization": name} for name in names}
    for name in ("none", "group_norm"):
        cases[f"`{name}`, standardised weights"] = {
            "model.normalization": name,
            "model.weight_standardization": True,
        }
    rows, means = [], {}
    for case, changes in cases.items():
        net = Net(_CNN | {"data.name": "mnist", "duration": "4 epochs"} | changes)
        rate = net.best("optimizer__learning_rate", rates(1e-3, 1e-2, 3))
        found = net.scores(optimizer__learning_rate=rate)
        means[case] = found["accuracy"].mean()
        rows.append([case, rate, percent(found["accuracy"]), f"{found['loss'].mean():.3f}"])
    best = max(means, key=means.get)
    return Claim(
        "Layer, group and instance norm, and standardised weights, do the work of batch norm",
        "Lecture, section 4; Ba et al., 2016; Wu and He, 2018; Qiao et al., 2019",
        "CNN of 8-16-32 channels on 3,000 images of MNIST, Adam, 4 epochs, the best of three "
        "rates.",
        [["Normaliser", "Rate", "Test accuracy", "Test loss"], *rows],
        min(means[f"`{name}`"] for name in names[1:4]) > means["`none`"],
        f"Best: {best}, {percent(means[best])}; without a normaliser {percent(means['`none`'])}.",
    )
