"""Cross-validation: one resident copy of the data, and a table of which rows each split is.

Preprocessing is fitted anew to the training rows of each split, so that nothing of a validation
split is known while its lane trains. A lane's numbers are those of a run alone on its rows.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from research.config import automatic_keys
from research.data import identity, sources, splits
from research.data.feed import padded_batches
from research.data.sources import Arrays, Dataset
from research.errors import UserError
from research.training import setup
from research.training.setup import Setup
from research.tuning.config import training

_OF_ARRAYS = ("inputs", "labels")
_OF_EACH = ("rows", "examples", "validation", "statistics", "probe")


@dataclasses.dataclass(frozen=True)
class Folds:
    """F splits of a data set into train and validation, as a compiled program reads them."""

    run: Setup  # of the first split
    sizes: tuple[int, ...]  # training examples of each
    validation_sizes: tuple[int, ...]
    # Of one split: 'inputs' and 'labels' of training, 'validation' {'inputs', 'labels', 'mask'} in
    # batches, 'statistics' of preprocessing, and 'probe', inputs that weights may be fitted to.
    # Of several: 'inputs' and 'labels' of all examples, and with an axis of F: 'rows' (F, n) and
    # 'examples' (F,) of training, 'validation' {'rows', 'mask'}, 'statistics', 'probe'.
    arrays: dict
    dataset: Dataset  # that they are cut from
    fingerprint: Callable[[], dict]  # of the data, as `fingerprint` below

    def __len__(self) -> int:
        return len(self.sizes)

    def description(self) -> list[str]:
        """Return the lines about the data that every start prints."""
        line, *others = self.run.description()
        if len(self) == 1:
            return [line, *others]
        labels = self.arrays["labels"]
        whole = len(np.unique(labels))
        lacking = sum(len(np.unique(labels[rows])) < whole for rows in self.arrays["rows"])
        lines = [f"{line}; this is the first of {len(self)} cuts", *self.run.messages]
        if lacking:
            lines.append(f"in {lacking} of {len(self)} cuts no example of some class is in train")
        return lines

    def own(self, arrays: dict, split) -> dict:
        """What one split has of the arrays; its number may be traced."""
        if len(self) == 1:
            return arrays
        return {
            name: jax.tree.map(lambda array: array[split], tree) if name in _OF_EACH else tree
            for name, tree in arrays.items()
        }

    def fitted(self, preprocessing: ConfigDict, split: int) -> dict | None:
        """The statistics of a split, where preprocessing is that of this section."""
        same = self.run.config.preprocessing == preprocessing
        return self.own(self.arrays, split)["statistics"] if same else None


def cut(
    config: ConfigDict, labels: np.ndarray, folds: int, repeats: int, stratified: bool = True
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Training and validation rows of each split: all folds of the first repeat, then the next.

    Args:
      config: `data.split_seed` is that of the first repeat, the next have the numbers after it;
        `data.validation` is the share that is held out where `folds` is 1.
      labels: int (N,).
      folds: 1: a share is held out once; N: leave-one-out; else k-fold cross-validation.
      repeats: how often the data are cut anew.
      stratified: whether classes are dealt out evenly.

    Raises:
      UserError: nothing to validate on, or more folds than can be.
    """
    if folds == 1 and not config.data.validation:
        raise UserError(
            "config.data.validation = 0.0 leaves a search nothing to judge by (allowed: more than "
            "0, or config.search.folds of at least 2)"
        )
    if folds == len(labels) and repeats > 1:
        raise UserError(
            f"config.search.repeats = {repeats}: leave-one-out has one cut (allowed: 1; "
            "config.search.seeds repeats the training)"
        )
    classes = labels if stratified else np.zeros_like(labels)
    found = []
    for seed in range(config.data.split_seed, config.data.split_seed + repeats):
        if folds == 1:
            found.append(splits.train_validation(classes, config.data.validation, seed))
        else:
            found += splits.k_fold(classes, folds, seed)
    if not all(len(validation) for _, validation in found):
        raise UserError(
            f"config.data.validation = {config.data.validation} leaves a search nothing to judge "
            f"by: {splits.why_nothing(classes, config.data.validation)} (allowed: more, or "
            "config.search.folds)"
        )
    return found


def fingerprint(
    config: ConfigDict, folds: int = 1, repeats: int = 1, stratified: bool = True
) -> dict:
    """Return the fingerprint of the data of a config and of how they are cut, fitting nothing.

    Returns:
      That of the official splits (research/data/identity.py), and 'cut', a checksum of the rows of
      train and validation in all splits.

    Raises:
      UserError: as for `load`.
    """
    dataset = _in_memory(config, setup.loaded(config))
    return _fingerprint(dataset, _parts(config, dataset, folds, repeats, stratified)[1])


def _fingerprint(dataset: Dataset, parts) -> dict:
    rows = np.concatenate([rows for part in parts for rows in part])
    return {**dataset.fingerprint(), "cut": identity.checksum(rows)}


def _in_memory(config: ConfigDict, dataset: Dataset) -> Dataset:
    if not isinstance(dataset.train, Arrays):
        raise UserError(
            f"config.data.memory_mb = {config.data.memory_mb}: a search trains on data in memory, "
            f"which take {dataset.train.nbytes / 2**20:.0f} (allowed: more than that)"
        )
    return dataset


def sized(config: ConfigDict) -> tuple[ConfigDict, str]:
    """Return the config of a search with numbers for what follows the data, and a line on them.

    The smallest of the training splits counts. Data are loaded only where something follows them.
    """
    if not automatic_keys(config):
        return config, ""
    search, alone = config.search, training(config)
    dataset = _in_memory(alone, setup.loaded(alone))
    _, parts = _parts(alone, dataset, search.folds, search.repeats, search.stratified)
    return setup.sized(config, min(len(rows) for rows, _ in parts))


def load(
    config: ConfigDict,
    folds: int = 1,
    repeats: int = 1,
    stratified: bool = True,
    earlier: Folds | None = None,
) -> Folds:
    """Loads the data of a config, cuts them, and fits preprocessing to each split.

    Args:
      config: the whole config.
      folds, repeats, stratified: as for `cut`.
      earlier: of another config with the same `data`, cut alike: what it loaded is not loaded
        again, nor is the same preprocessing fitted again.

    Raises:
      UserError: as for `setup.from_config`; data that come from disk.
    """
    dataset = _in_memory(config, setup.loaded(config, earlier and earlier.dataset))
    dataset = dataset if earlier else sources.in_float32(dataset)
    whole, parts = _parts(config, dataset, folds, repeats, stratified)
    first, statistics, probes = None, [], []
    for number, part in enumerate(parts):
        known = earlier and earlier.fitted(config.preprocessing, number)
        run = setup.from_split(config, whole, *part, known)
        first = first or run
        statistics.append(run.statistics)
        probes.append(run.probe())
    if len({len(probe) for probe in probes}) > 1:
        raise UserError(
            f"config.model.fit_weights = {config.model.fit_weights!r} takes all of so few examples "
            "as each split has, and the splits have not the same number (allowed: 'none', or a "
            "config.search.folds that divides them)"
        )
    training, validation = zip(*parts, strict=True)
    arrays = _one(first) if len(parts) == 1 else _several(config, whole.train, parts)
    arrays |= {"statistics": _together(statistics), "probe": _together(probes)}
    known = functools.cache(functools.partial(_fingerprint, dataset, parts))
    return Folds(
        first,
        tuple(map(len, training)),
        tuple(map(len, validation)),
        arrays,
        dataset,
        earlier.fingerprint if earlier else known,
    )


def _parts(
    config: ConfigDict, dataset: Dataset, folds: int, repeats: int, stratified: bool
) -> tuple[Dataset, list]:
    """Return the data set without an official validation split, and `cut` of its train.

    The examples of an official validation split are then behind those of train. They are validated
    on where `folds` is 1; cross-validation takes both splits together.
    """
    if dataset.validation is None:
        return dataset, cut(config, dataset.train.labels, folds, repeats, stratified)
    both = (dataset.train, dataset.validation)
    train = Arrays(*(np.concatenate([getattr(of, name) for of in both]) for name in _OF_ARRAYS))
    whole = dataclasses.replace(dataset, train=train, validation=None)
    if folds > 1:
        told = "cross-validation cuts train and the data's own validation split together"
        whole = dataclasses.replace(whole, messages=(*whole.messages, told))
        return whole, cut(config, train.labels, folds, repeats, stratified)
    if repeats > 1:
        raise UserError(
            f"config.search.repeats = {repeats}: the data have a validation split of their own, "
            "which is not cut anew (allowed: 1, or config.search.folds of at least 2)"
        )
    return whole, [tuple(np.split(np.arange(len(train)), [len(dataset.train)]))]


def _one(run: Setup) -> dict:
    size = run.config.compute.evaluation_batch_size
    batches = padded_batches(run.validation.inputs, run.validation.labels, size)
    return {**_arrays(run.train), "validation": batches}


def _several(config: ConfigDict, train: Arrays, parts) -> dict:
    training, validation = zip(*parts, strict=True)
    size, table = config.compute.evaluation_batch_size, _table(validation)
    # What fills a row of the table up counts as little as what fills a batch up.
    counted = np.arange(table.shape[1]) < np.array([[len(rows)] for rows in validation])
    batches = [padded_batches(*of, size) for of in zip(table, counted, strict=True)]
    return {
        **_arrays(train),
        "rows": _table(training),
        "examples": np.array([len(rows) for rows in training], np.int32),
        "validation": {
            "rows": np.stack([batch["inputs"] for batch in batches]),
            "mask": np.stack([batch["labels"].astype(bool) for batch in batches]),
        },
    }


def _arrays(split: Arrays) -> dict:
    return {"inputs": split.inputs, "labels": split.labels.astype(np.int32)}


def _table(rows) -> np.ndarray:
    """Rows of unequal lengths, filled up with their own first: int32 (F, n)."""
    longest = max(map(len, rows))
    filled = [np.concatenate([of, np.repeat(of[:1], longest - len(of))]) for of in rows]
    return np.stack(filled).astype(np.int32)


def _together(trees: list):
    """With an axis of their number, where there are several."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *of: np.stack(of), *trees)
