"""Cross-validate with one copy of the data on the device, and a table of each split's rows.

Preprocessing is fitted anew to the training rows of each split, so that no information of a
validation split reaches its lane. A lane's numbers equal those of a single run on its rows.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
from ml_collections import ConfigDict

from research.config import automatic_keys
from research.data import identity, sources, splits
from research.data.dataset import Arrays, Dataset, compact
from research.data.feed import padded_batches
from research.errors import UserError
from research.training import setup
from research.training.setup import Setup
from research.tuning.config import training

_OF_ARRAYS = ("inputs", "labels")
_OF_EACH = ("rows", "examples", "validation", "statistics", "probe")


@dataclasses.dataclass(frozen=True)
class Folds:
    """F splits of a data set into train and validation, in the form that a program reads."""

    run: Setup  # the run of the first split
    sizes: tuple[int, ...]  # number of training examples of each split
    validation_sizes: tuple[int, ...]
    # One split has 'inputs' and 'labels' of training, 'validation' {'inputs', 'labels', 'mask'} in
    # batches, 'statistics' of preprocessing, and 'probe', inputs for fitting initial weights.
    # Several splits share 'inputs' and 'labels' of all examples. With an axis of F they have 'rows'
    # (F, n) and 'examples' (F,) of training, 'validation' {'rows', 'mask'}, 'statistics', 'probe'.
    arrays: dict
    dataset: Dataset  # the data set that is cut
    fingerprint: Callable[[], dict]  # returns `fingerprint` of the data

    def __len__(self) -> int:
        return len(self.sizes)

    def description(self) -> list[str]:
        """Return the lines about the data that every start prints."""
        line, *others = self.run.description()
        if len(self) == 1:
            return [line, *others]
        lines = [f"{line}; this is the first of {len(self)} cuts", *self.run.messages]
        if self.run.task.kind != "classes":
            return lines
        labels = self.arrays["labels"]
        whole = len(np.unique(labels))
        lacking = sum(len(np.unique(labels[rows])) < whole for rows in self.arrays["rows"])
        if lacking:
            lines.append(f"in {lacking} of {len(self)} cuts no example of some class is in train")
        return lines

    def own(self, arrays: dict, split) -> dict:
        """Return the arrays of one split; its number may be traced."""
        if len(self) == 1:
            return arrays
        return {
            name: jax.tree.map(lambda array: array[split], tree) if name in _OF_EACH else tree
            for name, tree in arrays.items()
        }

    def fitted(self, preprocessing: ConfigDict, split: int) -> dict | None:
        """Return the statistics of a split's inputs; None if their preprocessing differs.

        Those of targets depend on other settings too, such as weights of classes.
        """
        if self.run.config.preprocessing != preprocessing:
            return None
        found = self.own(self.arrays, split)["statistics"]
        return {name: found[name] for name in found if name != "targets"}


def cut(
    config: ConfigDict,
    labels: np.ndarray,
    folds: int,
    repeats: int,
    stratified: bool = True,
    kind: str = "classes",
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the training and validation rows of each split, repeat by repeat.

    Args:
      config: `data.split_seed` is the seed of the first repeat; each next repeat adds 1.
        `data.validation` is the share for validation if `folds` is 1.
      labels: (N, ...).
      folds: 1: hold out a share once; N: leave-one-out; else k-fold cross-validation.
      repeats: number of times that the data are cut anew.
      stratified: whether all folds have the same shares of classes.
      kind: of the labels.

    Raises:
      UserError: no validation examples, or too many folds for the data.
    """
    if folds == 1 and not config.data.validation:
        raise UserError(
            "config.data.validation = 0.0 leaves a search nothing to judge by (allowed: more than "
            "0, or config.search.folds of at least 2)"
        )
    if repeats > 1 and (folds == len(labels) or kind == "tokens"):
        what = "a text is cut in its order" if kind == "tokens" else "leave-one-out has one cut"
        raise UserError(
            f"config.search.repeats = {repeats}: {what} (allowed: 1; "
            "config.search.seeds repeats the training)"
        )
    if kind == "classes" and not stratified:
        labels = np.zeros_like(labels)
    parts = []
    for seed in range(config.data.split_seed, config.data.split_seed + repeats):
        if folds == 1:
            parts.append(splits.train_validation(labels, config.data.validation, seed, kind))
        else:
            parts += splits.k_fold(labels, folds, seed, kind)
    if not all(len(validation) for _, validation in parts):
        raise UserError(
            f"config.data.validation = {config.data.validation} leaves a search nothing to judge "
            f"by: {splits.why_nothing(labels, config.data.validation, kind)} (allowed: more, or "
            "config.search.folds)"
        )
    return parts


def fingerprint(
    config: ConfigDict, folds: int = 1, repeats: int = 1, stratified: bool = True
) -> dict:
    """Return the fingerprint of a config's data and of their cut, without fitting anything.

    Returns:
      The fingerprint of the official splits (research/data/identity.py), and 'cut', a checksum of
      the rows of train and validation in all splits.

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
    """Replace automatic batch sizes and durations of a search by numbers; return them and a line.

    The smallest training split decides them. Data are loaded only if a value is automatic.
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
    """Load the data of a config, cut them, and fit preprocessing to each split.

    Args:
      config: the whole config.
      folds: as for `cut`.
      repeats: as for `cut`.
      stratified: as for `cut`.
      earlier: folds of another config with the same `data` and the same cuts. They supply the data,
        and the statistics if preprocessing is the same.

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
    arrays = _of_one_split(first) if len(parts) == 1 else _of_splits(config, whole.train, parts)
    arrays |= {"statistics": _stacked(statistics), "probe": _stacked(probes)}
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

    The examples of an official validation split follow those of train. They are the validation
    split if `folds` is 1; cross-validation cuts both splits together.
    """
    if dataset.validation is None:
        return dataset, cut(config, dataset.train.labels, folds, repeats, stratified, dataset.kind)
    both = (dataset.train, dataset.validation)
    train = Arrays(*(np.concatenate([getattr(part, name) for part in both]) for name in _OF_ARRAYS))
    whole = dataclasses.replace(dataset, train=train, validation=None)
    if folds > 1:
        message = "cross-validation cuts train and the data's own validation split together"
        whole = dataclasses.replace(whole, messages=(*whole.messages, message))
        return whole, cut(config, train.labels, folds, repeats, stratified, dataset.kind)
    if repeats > 1:
        raise UserError(
            f"config.search.repeats = {repeats}: the data have a validation split of their own, "
            "which is not cut anew (allowed: 1, or config.search.folds of at least 2)"
        )
    return whole, [tuple(np.split(np.arange(len(train)), [len(dataset.train)]))]


def _of_one_split(run: Setup) -> dict:
    size = run.config.compute.evaluation_batch_size
    batches = padded_batches(run.validation.inputs, run.validation.labels, size)
    return {**_arrays(run.train), "validation": batches}


def _of_splits(config: ConfigDict, train: Arrays, parts) -> dict:
    training, validation = zip(*parts, strict=True)
    size, table = config.compute.evaluation_batch_size, _table(validation)
    # Padding of a row of the table is masked like padding of a batch.
    counted = np.arange(table.shape[1]) < np.array([[len(rows)] for rows in validation])
    batches = [padded_batches(*row, size) for row in zip(table, counted, strict=True)]
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
    return {"inputs": split.inputs, "labels": compact(split.labels)}


def _table(rows) -> np.ndarray:
    """Stack rows of unequal lengths; pad each with its first entry: int32 (F, n)."""
    longest = max(map(len, rows))
    filled = [np.concatenate([own, np.repeat(own[:1], longest - len(own))]) for own in rows]
    return np.stack(filled).astype(np.int32)


def _stacked(trees: list):
    """Stack several trees along a new first axis; return a single tree unchanged."""
    return trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
