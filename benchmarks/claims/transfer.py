"""Section 8: transfer learning."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.claims import common, statistics
from benchmarks.claims.common import CHOOSING, SEEDS, Claim, Net, percent
from research.config import default_config
from research.data import sources
from research.data.dataset import Arrays
from research.training import early_stopping, transfer
from research.training.checkpoints import Checkpoints
from research.training.copies import copied

TITLE = "Transfer learning"
_LITTLE, _MUCH = 10, 250  # examples of each class
_POOL = 5000  # of each class that these are drawn from
_RATES = (1e-3, 3e-3, 1e-2)
_NET = {
    "data.name": "npz",
    "batch_size": 32,
    "model.name": "cnn",
    "model.channels": (8, 16, 32),
}
_SCRATCH = "from scratch"
_WAYS = {
    _SCRATCH: None,
    "head alone": {
        "transfer.freeze": (("(Conv|BatchNorm)_.*", "100 percent"),),
        "model.freeze_batch_stats": True,
    },
    "fine-tuned": {"optimizer.layer_decay": 1.0},
    "fine-tuned, layer decay .5": {"optimizer.layer_decay": 0.5},
}


def similar_and_different() -> Claim:
    rows, scores, validation, chosen = [], {}, {}, {}
    similar, different = ("MNIST 5 to 9", "CIFAR-10, grey")
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        paths = {
            similar: _saved(folder / "similar.npz", *_mnist(5), _POOL),
            different: _saved(folder / "different.npz", *_grey_cifar(), _POOL),
        }
        nets = _nets(_pretrained(folder), paths[similar])
        for target, path in paths.items():
            for amount in (_LITTLE, _MUCH):
                case = target, amount
                scores[case], validation[case] = {}, {}
                for way, net in nets.items():
                    found = _accuracies(net, path, amount, _WAYS[way] is not None)
                    rate, validation[case][way], scores[case][way] = found
                    chosen[f"{target}, {amount}, {way}"] = rate, _RATES
                rows.append([*case, *map(percent, scores[case].values())])
    ways = {case: best_transfer(validation[case]) for case in scores}
    gains = {case: scores[case][way] - scores[case][_SCRATCH] for case, way in ways.items()}
    found = statistics.judged(
        {
            "it pays for few similar images": gains[similar, _LITTLE],
            "more similar images need it less": gains[similar, _LITTLE] - gains[similar, _MUCH],
            "more different ones need it less": gains[different, _LITTLE] - gains[different, _MUCH],
            "few different images gain less": gains[similar, _LITTLE] - gains[different, _LITTLE],
        }
    )
    for row, case in zip(rows, gains, strict=True):
        mean, low, high = (f"{100 * value:+.1f}" for value in statistics.interval(gains[case]))
        row += [ways[case], f"{mean} ({low} to {high})"]
    told = "; ".join(f"{part}: {each.cell()}" for part, each in found.items())
    return Claim(
        "Transfer pays where data are few and similar, and the less the more or the more different "
        "they are",
        "Lecture, section 8; Yosinski et al., 2014",
        "CNN of 8-16-32 channels, trained on the digits 0 to 4 of MNIST, then on other classes "
        "from few or many images of each, of 14 x 14 pixels; Adam. Test accuracy of "
        f"ten draws of the images, each with its own seed. The best of {len(_RATES)} rates, and of "
        "the ways of transfer the one that is judged against from scratch, are those of the best "
        "accuracy on 2,000 other images with three other draws. Gains in points, 95 % intervals.",
        [["Data", "Images a class", *_WAYS, "Judged", "Gain"], *rows],
        statistics.by_part(found),
        f"{told[0].upper()}{told[1:]}." + statistics.edges(chosen),
    )


def best_transfer(validation: dict[str, float]) -> str:
    """The way of transfer that is judged against from scratch: by validation, never by test."""
    return max((way for way in validation if way != _SCRATCH), key=validation.get)


def _nets(checkpoint: Path, path: str) -> dict[str, Net]:
    """By way; of images that are drawn later."""
    changes = {"data.path": path, "transfer.checkpoint": str(checkpoint)}
    return {way: Net(_NET | changes | (static or {})) for way, static in _WAYS.items()}


def _accuracies(net: Net, path: str, amount: int, transferred: bool):
    """The rate of best validation accuracy, this, and the test accuracies (draws,) at it."""

    def accuracy(number, split, rate):
        drawn = net.drawn(
            number,
            data__path=path,
            data__validation=1 - amount / _POOL,
            duration="60 epochs" if amount == _LITTLE else "5 epochs",
        )
        state = drawn.start(seed=number, optimizer__learning_rate=rate)
        if transferred:
            state = transfer.start_from(drawn.run, state)[0]
        return drawn.score(drawn.train(state=state)[0], split)["accuracy"]

    validation = {
        rate: np.mean([accuracy(number, "validation", rate) for number in CHOOSING])
        for rate in _RATES
    }
    rate = max(_RATES, key=validation.get)
    found = np.array([accuracy(number, "test", rate) for number in SEEDS])
    return rate, validation[rate], found


def _pretrained(folder: Path) -> Path:
    """The run folder of a net that was trained on the digits 0 to 4."""
    path = _saved(folder / "source.npz", *_mnist(0), 2000)
    net = Net(
        _NET
        | {
            "data.path": path,
            "data.validation": 0.2,
            "duration": "3 epochs",
            "optimizer.learning_rate": 3e-3,
        }
    )
    state, _ = net.train()
    run = folder / "run"
    run.mkdir()
    with Checkpoints(run) as checkpoints:
        metadata = {"class_names": list(net.run.class_names)}
        objective = early_stopping.objective(net.run.config, net.run.task)
        checkpoints.save(int(state.step), net.run.config, copied(state), metadata, objective)
    return run


def _loaded(name: str) -> tuple[Arrays, Arrays]:
    data = default_config().data
    data.name, data.data_dir = name, common.data_dir
    dataset = sources.load(data)
    return dataset.train, dataset.test


def _mnist(first: int) -> tuple[Arrays, Arrays]:
    """Five digits from this one on, as classes 0 to 4."""
    return tuple(_five(split, first) for split in _loaded("mnist"))


def _grey_cifar() -> tuple[Arrays, Arrays]:
    """The first five classes of CIFAR-10, in grey, the middle 28 x 28 pixels."""

    def grey(split):
        inputs = split.inputs[:, 2:30, 2:30].mean(-1, keepdims=True).round().astype(np.uint8)
        return Arrays(inputs, split.labels)

    return tuple(_five(grey(split), 0) for split in _loaded("cifar10"))


def _five(split: Arrays, first: int) -> Arrays:
    kept = split.subset(np.flatnonzero((split.labels >= first) & (split.labels < first + 5)))
    return Arrays(_halved(kept.inputs), kept.labels - first)


def _halved(images: np.ndarray) -> np.ndarray:
    """uint8 (N, H, W, C) -> (N, H / 2, W / 2, C): means of 2 x 2 pixels, which train faster."""
    n, height, width, channels = images.shape
    blocks = images.reshape(n, height // 2, 2, width // 2, 2, channels)
    return blocks.mean((2, 4)).round().astype(np.uint8)


def _saved(path: Path, train: Arrays, test: Arrays, amount: int) -> str:
    """The first so many training images of each class, and 2,500 of test, as a file."""
    chosen = np.concatenate([np.flatnonzero(train.labels == c)[:amount] for c in range(5)])
    np.savez(
        path,
        train_inputs=train.inputs[chosen],
        train_labels=train.labels[chosen],
        test_inputs=test.inputs[:2500],
        test_labels=test.labels[:2500],
    )
    return str(path)
