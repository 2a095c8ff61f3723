"""Section 8: transfer learning."""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.claims import common
from benchmarks.claims.common import Claim, Net, percent
from research.config import default_config
from research.data import sources
from research.data.sources import Arrays
from research.training import transfer
from research.training.checkpoints import Checkpoints
from research.training.copies import copied

TITLE = "Transfer learning"
_LITTLE, _MUCH = 10, 500  # examples of each class
_NET = {
    "data.name": "npz",
    "data.validation": 0.2,
    "batch_size": 32,
    "model.name": "cnn",
    "model.channels": (8, 16, 32),
}
_WAYS = {
    "from scratch": None,
    "head alone": {
        "transfer.freeze": (("(Conv|BatchNorm)_.*", "100 percent"),),
        "model.freeze_batch_stats": True,
    },
    "fine-tuned": {"transfer.recalibrate": True},
    "fine-tuned, layer decay .5": {"transfer.recalibrate": True, "optimizer.layer_decay": 0.5},
}


def similar_and_different() -> Claim:
    rows, found = [], {}
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        checkpoint = _pretrained(folder)
        for target, split in (("MNIST 5 to 9", _mnist(5)), ("CIFAR-10, grey", _grey_cifar())):
            for amount in (_LITTLE, _MUCH):
                path = _saved(folder / f"{len(found)}.npz", *split, amount)
                cells = []
                for way, changes in _WAYS.items():
                    accuracy = _accuracy(path, amount, checkpoint, changes)
                    found[target, amount, way] = accuracy.mean()
                    cells.append(percent(accuracy))
                rows.append([target, amount, *cells])
    gains = {
        key: max(found[(*key, way)] for way in _WAYS if _WAYS[way]) - found[(*key, "from scratch")]
        for key in {(target, amount) for target, amount, _ in found}
    }
    similar, different = ("MNIST 5 to 9", "CIFAR-10, grey")
    told = ", ".join(
        f"{100 * gains[target, amount]:+.1f} ({target}, {amount})"
        for target in (similar, different)
        for amount in (_LITTLE, _MUCH)
    )
    parts = {
        "that it pays for few similar images": gains[similar, _LITTLE] > 0.02,
        "that more of them need it less": gains[similar, _MUCH] < gains[similar, _LITTLE] - 0.02,
        "that different ones gain less": gains[different, _LITTLE] < gains[similar, _LITTLE] - 0.02,
    }
    true = [part for part, holds in parts.items() if holds]
    false = [part for part in parts if part not in true]
    return Claim(
        "Transfer pays where data are few and similar, and the less the more or the more different "
        "they are",
        "Lecture, section 8; Yosinski et al., 2014",
        "CNN of 8-16-32 channels, trained on the digits 0 to 4 of MNIST, then on other classes "
        "from "
        "few or many images of each (a fifth of them for validation); Adam, the best of three "
        "rates, test accuracy of three seeds.",
        [["Data", "Images a class", *_WAYS], *rows],
        f"Holds in part: {', '.join(true)}" if true and false else bool(true),
        f"The best kind of transfer against from scratch, in points: {told}."
        + f" Not shown: {', '.join(false)}." * bool(false),
    )


def _accuracy(path: str, amount: int, checkpoint: Path, changes: dict | None) -> np.ndarray:
    net = Net(
        _NET
        | {
            "data.path": path,
            "duration": "60 epochs" if amount == _LITTLE else "5 epochs",
            "transfer.checkpoint": str(checkpoint),
        }
        | (changes or {})
    )

    def start(**numbers):
        state = net.start(**numbers)
        return state if changes is None else transfer.start_from(net.run, state)[0]

    def quality(rate):
        state, _ = net.train(state=start(seed=0, optimizer__learning_rate=rate))
        score = net.score(state, "validation")
        return score["accuracy"], -score["loss"]

    rate = max((1e-3, 3e-3, 1e-2), key=quality)
    states = (start(seed=seed, optimizer__learning_rate=rate) for seed in common.SEEDS)
    return np.array([net.score(net.train(state=state)[0])["accuracy"] for state in states])


def _pretrained(folder: Path) -> Path:
    """The run folder of a net that was trained on the digits 0 to 4."""
    path = _saved(folder / "source.npz", *_mnist(0), 2000)
    net = Net(_NET | {"data.path": path, "duration": "3 epochs", "optimizer.learning_rate": 3e-3})
    state, _ = net.train()
    run = folder / "run"
    run.mkdir()
    with Checkpoints(run) as checkpoints:
        metadata = {"class_names": list(net.run.class_names)}
        checkpoints.save(int(state.step), net.run.config, copied(state), metadata)
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

    return tuple(grey(_five(split, 0)) for split in _loaded("cifar10"))


def _five(split: Arrays, first: int) -> Arrays:
    kept = split.subset(np.flatnonzero((split.labels >= first) & (split.labels < first + 5)))
    return Arrays(kept.inputs, kept.labels - first)


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
