"""Build the parts of a run from its config: data in splits, and the shape of the state."""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from ml_collections import ConfigDict

from research import tasks
from research.config import automatic_keys, check_config, flatten, resolved
from research.data import description, identity, offsets, sources, splits
from research.data.checks import grey_hint
from research.data.dataset import Arrays, Dataset, Records
from research.errors import UserError
from research.tasks import Task
from research.training import (
    batch_statistics,
    checks,
    durations,
    early_stopping,
    ensembles,
    fitted,
    hyperparameters,
    input_checks,
)
from research.training.plan import Plan
from research.training.sharding import Sharding
from research.training.state import TrainState, init_state

_PROBE = 512  # number of examples that initial weights are fitted to


@dataclasses.dataclass(frozen=True)
class Setup:
    """A run before any training: its config, data and preprocessing."""

    config: ConfigDict
    train: Arrays | Records
    validation: Arrays | Records
    test: Arrays | Records
    class_names: tuple[str, ...]
    statistics: dict  # of preprocessing, fitted only on `train`
    messages: tuple[str, ...] = ()  # lines that a user should know about the data
    name: str = ""  # name of the data set
    ignored: str = ""  # as in `Dataset`
    fingerprint: Callable[[], dict] = dict  # of the data: research/data/identity.py

    @functools.cached_property
    def task(self) -> Task:
        """Return the task, for the outputs that the data name."""
        return tasks.build(self.config, self.class_names)

    @property
    def sharding(self) -> Sharding:
        """Return the sharding of the arrays on devices."""
        return Sharding.from_config(self.config)

    def init(self) -> TrainState:
        """Return the state before the first step; works under `jax.eval_shape`."""
        numbers = hyperparameters.from_config(self.config, len(self.train))

        def init(numbers, statistics, inputs):
            def alone(numbers):
                return init_state(self.config, numbers, statistics, inputs, self.task.outputs)

            return ensembles.initialized(self.config, alone, numbers)

        examples = self.probe()
        shapes = jax.jit(init).trace(numbers, self.statistics, examples).out_info
        checks.check_memory(shapes)
        placed = jax.jit(init, out_shardings=self.sharding.of_state(shapes))
        return placed(numbers, self.statistics, examples)

    def probe(self) -> np.ndarray:
        """Return raw inputs to fit initial weights to; a single one if weights are not fitted."""
        return self.spread(1 if self.config.model.fit_weights == "none" else _PROBE)

    def spread(self, count: int) -> np.ndarray:
        """Return raw inputs of at most `count` training examples, evenly spaced over the split."""
        indices = np.linspace(0, len(self.train) - 1, min(len(self.train), count), dtype=int)
        return self.train.load(indices).inputs

    def description(self) -> list[str]:
        """Return the lines about the data that every start prints."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        offset = offsets.of(self.statistics, self.train.shape)
        line = description.line(
            self.name, parts, self.class_names, self.ignored, offset, self.task.kind
        )
        lines = [line, *self.messages, *description.absent(parts, self.class_names, self.task.kind)]
        share = self.config.data.validation
        if share and not len(self.validation):
            reason = splits.why_nothing(self.train.labels, share, self.task.kind)
            lines.append(f"there is no validation split: config.data.validation: {reason}")
        return lines

    def warnings(self) -> list[str]:
        """Return a warning for each setting that is probably a mistake."""
        return [
            *checks.warnings(self.config),
            *input_checks.warnings(self.config, self.train, self._held_out, self.statistics),
            *durations.warnings(self.config, len(self.train)),
            *batch_statistics.warnings(self),
        ]

    @property
    def _held_out(self) -> dict[str, Arrays | Records]:
        return {"validation": self.validation, "test": self.test}

    def plan(self) -> Plan:
        """Return the steps at which the run logs, evaluates and saves."""
        examples = len(self.train)
        numbers = hyperparameters.from_config(self.config, examples)
        every = [
            max(1.0, hyperparameters.in_steps(self.config, key, examples))
            for key in ("log_every", "evaluate_every", "checkpoint.every")
        ]
        log_every, evaluate_every, checkpoint_every = every
        total = hyperparameters.total_steps(self.config, examples)
        return Plan(
            total,
            log_every,
            evaluate_every if len(self.validation) else total,  # there is nothing to evaluate
            checkpoint_every,
            snapshots=ensembles.cycle_ends(numbers["schedule"], self.config.ensemble.snapshots),
        )


def from_config(
    config: ConfigDict,
    workdir: Path | None = None,
    dataset: Dataset | None = None,
    check: Callable[[dict], None] | None = None,
) -> Setup:
    """Check the config, load its data, cut the validation split, and fit the preprocessing.

    Args:
      config: the whole config.
      workdir: a run folder; if its checkpoints hold the preprocessing of the same data,
        preprocessing is not fitted again.
      dataset: the data, if they are loaded already.
      check: receives the fingerprint of the data before they are used, and may refuse them.

    Raises:
      UserError: anything in the config, or in the data, that cannot be trained on.
    """
    dataset = loaded(config, dataset)
    parts = cut(config, dataset)
    if check:
        check(_fingerprinted(dataset, *parts)())
    statistics = None
    if workdir is not None:
        from research.training.checkpoints import Checkpoints

        with Checkpoints(workdir, read_only=True) as checkpoints:
            statistics = fitted.fitted_before(checkpoints, config)
        if statistics is not None and not fitted.takes(statistics, dataset.train):
            statistics = None
    dataset = sources.in_float32(dataset, statistics)
    return from_split(config, dataset, *parts, statistics)


def fingerprint(config: ConfigDict, dataset: Dataset | None = None) -> dict:
    """Return `from_config(config, dataset=dataset).fingerprint()`, without fitting anything.

    Raises:
      UserError: as `from_config`.
    """
    dataset = loaded(config, dataset)
    return _fingerprinted(dataset, *cut(config, dataset))()


def sized(config: ConfigDict, examples: int) -> tuple[ConfigDict, str]:
    """Replace an automatic batch size and duration by numbers, and tell them in a line.

    Args:
      config: the whole config.
      examples: number of training examples.

    Returns:
      The config, and the line; '' if nothing was automatic.
    """
    keys = automatic_keys(config)
    if not keys:
        return config, ""
    config = resolved(config, examples, checks.needs_all_examples(config))
    settings = " and ".join(f"config.{key} = {flatten(config)[key]!r}" for key in keys)
    follow = "follows" if len(keys) == 1 else "follow"
    return config, f"{settings} {follow} from the {examples} training examples"


def cut(config: ConfigDict, dataset: Dataset) -> tuple[np.ndarray, np.ndarray | None]:
    """Return indices into the official train split, as arguments of `from_split`.

    Returns:
      The indices of the examples used for training, and of those used for validation (None: the
      official validation split).
    """
    if dataset.validation is not None:
        return np.arange(len(dataset.train)), None
    share, seed = config.data.validation, config.data.split_seed
    return splits.train_validation(dataset.train.labels, share, seed, dataset.kind)


def loaded(config: ConfigDict, dataset: Dataset | None = None) -> Dataset:
    """Check the config, and load its data unless they are given.

    Args:
      config: the whole config.
      dataset: the data of the config, if they are loaded already.

    Raises:
      UserError: anything in the config, or in the data, that cannot be trained on.
    """
    check_config(config)
    checks.check_names(config)
    checks.check_pairs(config)
    Sharding.from_config(config).static(config)
    dataset = dataset or sources.load(config.data, kind=tasks.kind(config))
    names = config.augmentation.names + ("cutmix",) * (config.augmentation.mixing == "cutmix")
    if names and len(dataset.train.shape) != 3:
        raise UserError(
            f"config.augmentation: {', '.join(names)} work on images, the data have shape "
            f"{dataset.train.shape} (allowed here: (){grey_hint(dataset.train.shape)})"
        )
    return dataset


def from_split(
    config: ConfigDict,
    dataset: Dataset,
    training: np.ndarray,
    validation: np.ndarray | None,
    statistics: dict | None = None,
) -> Setup:
    """Return the `Setup` of loaded data, cut by indices into the official train split.

    Args:
      config: the whole config.
      dataset: the data.
      training: indices of the examples used for training.
      validation: indices of those used for validation; None: the official validation split.
      statistics: preprocessing statistics of an earlier fit; None: fit them.
    """
    known = _fingerprinted(dataset, training, validation)
    train = dataset.train.subset(training)
    validation = dataset.validation if validation is None else dataset.train.subset(validation)
    config, numbers = sized(config, len(train))
    checks.check_sizes(config, len(train))
    patience = hyperparameters.in_steps(config, "early_stopping.patience", len(train))
    early_stopping.check(config, patience, len(validation))
    checks.check_ensemble(config, train)
    if statistics is None or not fitted.takes(statistics, train):
        statistics = fitted.fit(config, train, dataset.offset)
    if "targets" not in statistics:
        targets = tasks.build(config, dataset.class_names).statistics(train.labels)
        if dataset.target_offset is not None:
            targets |= {"offset": offsets.parts(dataset.target_offset)}
        statistics = statistics | ({"targets": targets} if targets else {})
    if config.augmentation.mixing == "cutmix" and len(fitted.shape_of(statistics, train)) != 3:
        raise UserError(
            "config.augmentation.mixing = 'cutmix' works on images, config.preprocessing.name = "
            f"{config.preprocessing.name!r} makes vectors of them (allowed here: none, mixup)"
        )
    run = Setup(
        config=config,
        train=train,
        validation=validation,
        test=dataset.test,
        class_names=dataset.class_names,
        statistics=statistics,
        messages=(*dataset.messages, *filter(None, [numbers])),
        name=dataset.name,
        ignored=dataset.ignored,
        fingerprint=known,
    )
    early_stopping.objective(config, run.task)  # refuses what cannot decide
    input_checks.check_values(config, train, run._held_out, statistics)
    return run


def _fingerprinted(
    dataset: Dataset, training: np.ndarray, validation: np.ndarray | None
) -> Callable[[], dict]:
    """Return a function that returns the data set's fingerprint with the cut of its train split."""

    @functools.cache
    def fingerprint() -> dict:
        known = dataset.fingerprint or identity.begun(dataset.class_names, dataset.splits())
        official = dataset.validation if validation is None else validation
        cut = {"train": len(training), "validation": len(official)}
        return {**known(), "cut": {**cut, "rows": identity.checksum(training)}}

    return fingerprint
