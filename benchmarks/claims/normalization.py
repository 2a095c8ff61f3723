"""Section 4: batch normalisation and its relatives."""

import numpy as np

from benchmarks.claims import statistics
from benchmarks.claims.common import (
    CHOOSING,
    SEEDS,
    Claim,
    Net,
    least_steps,
    percent,
    rates,
    stacked,
)
from research.training.recalibration import recalibrate, train_and_eval_loss

TITLE = "Batch normalisation"
_CNN = {
    "data.name": "cifar10",
    "data.validation": 0.95,
    "batch_size": 32,
    "model.name": "cnn",
    "model.channels": (8, 16, 32),
}
_MLP = {"data.name": "mnist", "data.validation": 0.9, "model.hidden": (64, 64)}


def initial_scale() -> Claim:
    scales = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
    rows, spans, chosen, grid = [], {}, {}, rates(3e-4, 0.1, 6)
    for normalization in ("none", "batch_norm"):
        net = Net({"model.hidden": (64,) * 3, "model.normalization": normalization})
        rate = net.best("optimizer__learning_rate", grid)
        chosen[f"`{normalization}`"] = rate, grid
        numbers = {"optimizer__learning_rate": rate}
        found = np.array(
            [net.scores(model__initializer_scale=scale, **numbers)["accuracy"] for scale in scales]
        )
        spans[normalization] = np.ptp(found, axis=0)
        rows.append([f"`{normalization}`", rate, *map(percent, found)])
    found = statistics.judged({"": spans["none"] - spans["batch_norm"]})
    return Claim(
        "Batch norm makes the result depend less on the size of the initial weights",
        "Lecture, section 4; Ioffe and Szegedy, 2015, section 3.3",
        f"Three hidden layers of 64 ReLU on digits, Adam, 20 epochs at the best of {len(grid)} "
        "rates for He weights by validation accuracy; test accuracy when these are multiplied, of "
        "ten seeds. Judged is how far the best and the worst of a seed's seven are apart.",
        [["Normaliser", "Rate", *(f"x {scale:g}" for scale in scales)], *rows],
        statistics.together(found),
        f"Over three orders of magnitude accuracy changes by {percent(spans['none'])} without and "
        f"by {percent(spans['batch_norm'])} with batch norm; less by {found[''].told()} points."
        + statistics.edges(chosen),
    )


def running_statistics() -> Claim:
    rows, gains, gaps = [], {}, {}
    net = Net(_MLP | {"optimizer.learning_rate": 0.03, "schedule.name": "constant"})
    batch = net.run.train.subset(np.arange(128))
    for steps in (5, 20, 100):
        for decay in (0.9, 0.99):
            before, after, by_batch = [], [], []
            for seed in SEEDS:
                state, _ = net.train(steps, seed=seed, model__batch_norm_decay=decay)
                settled = recalibrate(net.run.config, net.run.task, state, net.run.train)
                for gap, one in ((before, state), (after, settled)):
                    pair = train_and_eval_loss(net.run.config, net.run.task, one, batch)
                    gap.append(abs(pair[1] - pair[0]))
                by_batch.append(pair[0])
            gains[steps, decay] = np.array(before) - np.array(after)
            gaps[steps, decay] = np.mean(before), np.mean(after)
            cells = (np.mean(by_batch), *gaps[steps, decay])
            rows.append([steps, decay, *(f"{value:.4f}" for value in cells)])
    found = statistics.judged(gains)
    for row, each in zip(rows, found.values(), strict=True):
        row.append(each.cell(3, 1))
    early, late = gaps[5, 0.99], gaps[100, 0.9]
    return Claim(
        "Running statistics make train and evaluation loss of one batch differ; recalibration "
        "mends it",
        "Lecture, section 4",
        "784-64-64-10 on 6,000 images of MNIST, Adam at a constant rate of .03; one batch of 128, "
        "normalised by itself and by running statistics, mean of ten seeds; what recalibration "
        "takes off the difference, with its 95 % interval.",
        [["Steps", "Decay", "Loss by the batch", "Difference", "Recalibrated", "Less"], *rows],
        statistics.together(found),
        f"After 5 steps at decay .99 the difference is {early[0]:.3f}, recalibrated "
        f"{early[1]:.3f}; after 100 at .9 {late[0]:.3f} and {late[1]:.3f}. What is left is that "
        "the batch is not all of train.",
    )


def stable_rates() -> Claim:
    grid = [2.0**power for power in range(-4, 8)]
    steps, rows, gains, largest = 200, [], {}, 0
    for what, changes in (("MLP on MNIST", _MLP), ("CNN on CIFAR-10", _CNN)):
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
            widest[normalization] = np.array([_largest_stable(net, grid, seed) for seed in SEEDS])
        gains[what] = np.log2(widest["batch_norm"] / widest["none"])
        largest += int((np.stack(list(widest.values())) == grid[-1]).sum())
        rows.append(
            [what, *(f"{np.median(each):g} ({each.min():g} to {each.max():g})"
                     for each in widest.values())]
        )  # fmt: skip
    found = statistics.judged(gains)
    for row, each in zip(rows, found.values(), strict=True):
        ends = (2**value for value in (each.mean, each.low, each.high))
        row.append("{:.1f} ({:.1f} to {:.1f}), ".format(*ends) + each.verdict)
    return Claim(
        "Batch norm allows larger learning rates",
        "Lecture, section 4; Ioffe and Szegedy, 2015, section 4.2",
        f"SGD of {steps} steps: the largest rate, of powers of 2 from {grid[0]:g} to {grid[-1]:g}, "
        "up to which the mean training loss of the last 50 steps is below .9 log 10; median and "
        "range of ten seeds; geometric mean of the ratios, 95 % interval. (784-64-64-10; 8-16-32 "
        "channels, batch 32.)",
        [["Net", "Without", "With batch norm", "Ratio"], *rows],
        statistics.together(found),
        " and ".join(f"{2**each.mean:.1f}" for each in found.values())
        + " times as large"
        + f"; {largest} of {4 * len(SEEDS)} trainings at the largest rate that was tried"
        * bool(largest)
        + ". A step of a normalised layer only turns its weights, and makes them longer, which "
        "makes the next step smaller.",
    )


def _largest_stable(net: Net, grid: list[float], seed: int) -> float:
    """The last rate before the first that does not train after one that did; else the least."""
    stable = []
    for rate in grid:
        state, _ = net.train(net.steps - 50, seed=seed, optimizer__learning_rate=rate)
        _, metrics = net.train(50, state)
        if float(metrics.loss) < 0.9 * np.log(10):
            stable.append(rate)
        elif stable:
            break
    return stable[-1] if stable else grid[0]


def faster_convergence() -> Claim:
    every, most, wanted, grid = 10, 1500, 0.95, rates(0.1, 3, 6)
    rows, steps, chosen = [], {}, {}
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

        def steps_of(rate, seed, most, net=net):
            numbers = {"seed": seed, "optimizer__learning_rate": rate}
            return net.steps_until(wanted, every, most, 2, **numbers)

        rate = least_steps(steps_of, grid, most)
        chosen[f"`{normalization}`"] = rate, grid
        steps[normalization] = np.array([steps_of(rate, seed, most) for seed in SEEDS])
        mean, low, high = statistics.interval(steps[normalization])
        rows.append([f"`{normalization}`", rate, f"{mean:.0f} ({low:.0f} to {high:.0f})"])
    ratios = np.log(steps["none"] / steps["batch_norm"])
    faster, fraction = statistics.judged({"": ratios, "half": ratios - np.log(2)}).values()
    ratio, low, high = np.exp(statistics.interval(ratios))
    capped = sum(int((each == most).sum()) for each in steps.values())
    pace = chosen["`batch_norm`"][0] / chosen["`none`"][0]
    return Claim(
        "Batch norm trains in a fraction of the steps (Inception: 1/14 at 5 times the rate)",
        "Lecture, section 4; Ioffe and Szegedy, 2015, section 4.2.2",
        "Three hidden layers of 64 sigmoid units (as in section 4.1 of the paper) on 6,000 images "
        f"of MNIST, momentum: steps until {2 * every} of them have 95 % train accuracy, at the "
        f"fastest of {len(grid)} rates; mean of ten seeds, 95 % interval. A fraction: "
        "at most half.",
        [["Normaliser", "Rate", "Steps"], *rows],
        "Holds" if fraction.verdict == statistics.BETTER else
        "Holds in kind, not in size" if faster.verdict == statistics.BETTER else
        "Inconclusive" if fraction.verdict == statistics.INCONCLUSIVE else False,
        f"Without batch norm it takes {ratio:.2f} ({low:.2f} to {high:.2f}) times as many steps; "
        f"the rates are as 1 to {pace:.1f}."
        + f" {capped} trainings did not get there and count as {most}." * bool(capped)
        + statistics.edges(chosen),
    )  # fmt: skip


def ghost_batches() -> Claim:
    rows, scores, validation, sizes = [], {}, {}, (0, 128, 32, 8, 4)
    for size in sizes:
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
        scores[size] = {
            split: stacked([net.score(state, split) for state in trained])
            for split in ("train", "test")
        }
        validation[size] = net.scores(CHOOSING, "validation")["loss"].mean()
    losses = {size: {split: each[split]["loss"] for split in each} for size, each in scores.items()}
    gaps = {size: each["test"] - each["train"] for size, each in losses.items()}
    best, found, verdict = ghosts_judged(losses, validation)
    for size, each in scores.items():
        cells = [f"{losses[size][split].mean():.4f}" for split in ("train", "test")]
        less = [found[what, size].cell(3, 1) if size else "" for what in ("gap", "test")]
        accuracy = percent(each["test"]["accuracy"], 2)
        rows.append([size or "all 512", accuracy, *cells, f"{gaps[size].mean():.4f}", *less])
    return Claim(
        "Batch norm regularises: statistics of smaller parts of the batch close the gap to test",
        "Lecture, section 4; Hoffer et al., 2017",
        "784-64-64-10 on 6,000 images of MNIST, batches of 512, Adam at .01, 15 epochs, ten seeds. "
        "The gap is test loss less train loss; what parts take off it, and off the test loss, with "
        "95 % intervals. Judged at the size of least validation loss: a smaller gap is no merit "
        "where the train loss alone has risen.",
        [["Ghost batch", "Test accuracy", "Train loss", "Test loss", "Gap", "Gap less by",
          "Test loss less by"], *rows],
        verdict,
        f"Parts of {best} have the least validation loss: there the gap is {gaps[best].mean():.3f} "
        f"and the test loss {losses[best]['test'].mean():.3f}, by all 512 {gaps[0].mean():.3f} and "
        f"{losses[0]['test'].mean():.3f}. By parts of {sizes[-1]} the gap is "
        f"{gaps[sizes[-1]].mean():.3f}, the test loss {losses[sizes[-1]]['test'].mean():.3f}."
        + statistics.edges({"size of parts": (best, sizes[1:])}),
    )  # fmt: skip


def ghosts_judged(losses: dict, validation: dict) -> tuple[int, dict, str]:
    """The size of least validation loss, all rows by ('gap' or 'test', size), and its verdict.

    Args:
      losses: {size: {'train', 'test'} -> array (seeds,)}, size 0 being the whole batch.
      validation: {size: loss}.
    """
    parts = [size for size in losses if size]
    gaps = {size: each["test"] - each["train"] for size, each in losses.items()}
    found = statistics.judged(
        {("gap", size): gaps[0] - gaps[size] for size in parts}
        | {("test", size): losses[0]["test"] - losses[size]["test"] for size in parts}
    )
    best = min(parts, key=validation.get)
    parts = {"the gap closes": found["gap", best], "the test loss falls": found["test", best]}
    return best, found, statistics.by_part(parts)


def relatives() -> Claim:
    margin, grid = 0.005, (3e-3, 1e-2, 3e-2, 0.1)
    names = ("none", "batch_norm", "group_norm", "instance_norm")
    cases = {f"`{name}`": {"model.normalization": name} for name in names}
    cases["`group_norm` of one group"] = {
        "model.normalization": "group_norm",
        "model.norm_groups": 1,
    }
    for name in ("none", "group_norm"):
        cases[f"`{name}` with standardised weights"] = {
            "model.normalization": name,
            "model.weight_standardization": True,
        }
    rows, scores, chosen = [], {}, {}
    for case, changes in cases.items():
        few = {"data.name": "mnist", "data.validation": 0.98, "duration": "4 epochs"}
        net = Net(_CNN | few | changes)
        rate = net.best("optimizer__learning_rate", grid)
        chosen[case] = rate, grid
        scores[case] = net.scores(optimizer__learning_rate=rate)
        loss = f"{scores[case]['loss'].mean():.3f}"
        rows.append([case, rate, percent(scores[case]["accuracy"]), loss])
    accuracies = {case: each["accuracy"] for case, each in scores.items()}
    normed, plain = accuracies.pop("`batch_norm`"), accuracies.pop("`none`")
    work = statistics.judged({"": normed - plain})[""]
    found = statistics.judged(
        {case: each - normed for case, each in accuracies.items()}, above=-margin
    )
    for row in rows:
        beside = found.get(row[0])
        row.append(beside.cell().replace(statistics.BETTER, "as good") if beside else "")
    return Claim(
        "Layer, group and instance norm, and standardised weights, do the work of batch norm",
        "Lecture, section 4; Ba et al., 2016; Wu and He, 2018; Qiao et al., 2019",
        f"CNN of 8-16-32 channels on 1,200 images of MNIST, Adam, 4 epochs, the best of "
        f"{len(grid)} rates by validation accuracy, ten seeds; points of test accuracy ahead of "
        f"batch norm, 95 % interval. As good: less than {100 * margin:g} points behind.",
        [["Normaliser", "Rate", "Test accuracy", "Test loss", "Beside batch norm"], *rows],
        statistics.together(found) if work.verdict == statistics.BETTER else
        "Inconclusive: batch norm is no better than none here",
        f"Batch norm, {percent(normed)}, is {work.told()} points ahead of none, {percent(plain)}. "
        "As good as batch norm: "
        f"{', '.join(statistics.rows(found, statistics.BETTER)) or 'none'}; worse by more than "
        f"that: {', '.join(statistics.rows(found, statistics.WORSE)) or 'none'}; inconclusive: "
        f"{', '.join(statistics.rows(found, statistics.INCONCLUSIVE)) or 'none'}."
        + statistics.edges(chosen),
    )  # fmt: skip
