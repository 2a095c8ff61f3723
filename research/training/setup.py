"""From a config to the things a run is made of: data in splits, and the shape of the state."""

import dataclasses
import math

import jax
import numpy as np
from ml_collections import ConfigDict

from research.config import INTERVALS, automatic_keys, check_config, flatten, resolved
from research.data import preprocessing, sources, splits, stream
from research.data.feed import preprocess
from research.data.sources import Arrays, Dataset, Records
from research.errors import UserError
from research.names import bind, resolve
from research.training import checks, early_stopping, ensembles, hyperparameters
from research.training.layout import Layout
from research.training.plan import Plan
from research.training.state import TrainState, init_state

_PROBE = 512  # examples that weights are fitted to, where they are
_CHUNK = 2**22  # numbers in float64 at a time that preprocessing is fitted to: 32 MB


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a config stands for, before any training."""

    config: ConfigDict
    train: Arrays | Records
    validation: Arrays | Records
    test: Arrays | Records
    class_names: tuple[str, ...]
    statistics: dict  # of preprocessing, fitted on `train` alone
    messages: tuple[str, ...] = ()  # what a user should know about the data, a line each

    @property
    def classes(self) -> int:
        """The number of classes."""
        return len(self.class_names)

    @property
    def layout(self) -> Layout:
        """Where its arrays lie."""
        return Layout.from_config(self.config)

    def init(self) -> TrainState:
        """The state before the first step; works under `jax.eval_shape`."""
        numbers = hyperparameters.from_config(self.config, len(self.train))

        def init(numbers, statistics, inputs):
            def alone(numbers):
                return init_state(self.config, numbers, statistics, inputs, self.classes)

            return ensembles.initialized(self.config, alone, numbers)

        examples = self.probe()
        shapes = jax.jit(init).trace(numbers, self.statistics, examples).out_info
        checks.check_memory(shapes)
        placed = jax.jit(init, out_shardings=self.layout.of_state(shapes))
        return placed(numbers, self.statistics, examples)

    def probe(self) -> np.ndarray:
        """Raw inputs that initial weights are fitted to; one, for its shape, where they are not."""
        return self.spread(1 if self.config.model.fit_weights == "none" else _PROBE)

    def spread(self, count: int) -> np.ndarray:
        """Raw inputs of at most so many training examples, from all over the split."""
        return _spread(self.train, count)

    def warnings(self) -> list[str]:
        """Return a line for each choice that is more likely a slip than meant."""
        return checks.warnings(self.config)

    def plan(self) -> Plan:
        """When what happens."""
        examples = len(self.train)
        numbers = hyperparameters.from_config(self.config, examples)
        every = [
            max(1.0, hyperparameters.in_steps(self.config, key, examples)) for key in INTERVALS
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


def from_config(config: ConfigDict, statistics: dict | None = None) -> Setup:
    """Checks the config, loads its data, cuts the validation split, fits the preprocessing.

    Args:
      config: the whole config.
      statistics: what preprocessing was fitted to before, if it was: `fitted.fitted_before`.

    Raises:
      UserError: anything in the config, or in the data, that cannot be trained on.
    """
    dataset = loaded(config)
    if dataset.validation is not None:
        return from_split(config, dataset, np.arange(len(dataset.train)), None, statistics)
    labels = labels_of(dataset.train)
    cut = splits.train_validation(labels, config.data.validation, config.data.split_seed)
    return from_split(config, dataset, *cut, statistics)


def loaded(config: ConfigDict, dataset: Dataset | None = None) -> Dataset:
    """Checks the config, and loads its data, unless they are given.

    Raises:
      UserError: anything in the config, or in the data, that cannot be trained on.
    """
    check_config(config)
    checks.check_names(config)
    checks.check_pairs(config)
    Layout.from_config(config).static(config)
    dataset = dataset or sources.load(config.data)
    names = config.augmentation.names + ("cutmix",) * (config.augmentation.mixing == "cutmix")
    if names and len(dataset.train.shape) != 3:
        raise UserError(
            f"config.augmentation: {', '.join(names)} work on images, the data have shape "
            f"{dataset.train.shape} (allowed here: ())"
        )
    return dataset


def labels_of(train: Arrays | Records) -> np.ndarray:
    """What a split is cut by, class by class; data on disk are not read for it: one class."""
    return train.labels if isinstance(train, Arrays) else np.zeros(len(train), np.int32)


def from_split(
    config: ConfigDict,
    dataset: Dataset,
    training: np.ndarray,
    validation: np.ndarray | None,
    statistics: dict | None = None,
) -> Setup:
    """`from_config`, of loaded data and the numbers of the examples in each part of its train.

    `validation` = None stands for the data set's official validation split.
    """
    train = dataset.train.subset(training)
    validation = dataset.validation if validation is None else dataset.train.subset(validation)
    config, chosen = _resolved(config, len(train))
    checks.check_sizes(config, len(train))
    patience = hyperparameters.in_steps(config, "early_stopping.patience", len(train))
    early_stopping.check(config, patience, len(validation))
    checks.check_ensemble(config, train)
    if statistics is None or not _takes(statistics, train):
        statistics = _fitted(config, train)
    if config.augmentation.mixing == "cutmix" and len(_given(statistics, train)) != 3:
        raise UserError(
            "config.augmentation.mixing = 'cutmix' works on images, config.preprocessing.name = "
            f"{config.preprocessing.name!r} makes vectors of them (allowed here: none, mixup)"
        )
    return Setup(
        config=config,
        train=train,
        validation=validation,
        test=dataset.test,
        class_names=dataset.class_names,
        statistics=statistics,
        messages=(*dataset.messages, *chosen),
    )


def _resolved(config: ConfigDict, examples: int) -> tuple[ConfigDict, list[str]]:
    """Return the config with numbers for what follows the data, and a line that tells them."""
    keys = automatic_keys(config)
    config = resolved(config, examples, checks.needs_all_examples(config))
    told = " and ".join(f"config.{key} = {flatten(config)[key]!r}" for key in keys)
    return config, [f"{told}, by the number of training examples, {examples}"] if keys else []


def _fitted(config: ConfigDict, train: Arrays | Records) -> dict:
    """The statistics of preprocessing, over all of the training split."""
    scheme = resolve("config.preprocessing.name", config.preprocessing.name, preprocessing)
    size = max(1, _CHUNK // math.prod(train.shape))
    chunks = (chunk.inputs for chunk in stream.chunks(train, size))
    return bind(scheme, config.preprocessing, {})(chunks)


def _given(statistics: dict, train: Arrays | Records) -> tuple[int, ...]:
    """The shape of what preprocessing gives for an example."""
    one = jax.ShapeDtypeStruct((1, *train.shape), train.dtype)
    return jax.eval_shape(preprocess, statistics, one).shape[1:]


def _takes(statistics: dict, train: Arrays | Records) -> bool:
    """Whether statistics of an earlier fit are for inputs of this shape."""
    try:
        _given(statistics, train)
        return np.broadcast_shapes(statistics["shift"].shape, train.shape) == train.shape
    except (TypeError, ValueError):  # of shapes
        return False


def _spread(train: Arrays | Records, count: int) -> np.ndarray:
    """Inputs of at most so many examples, from all over the split."""
    indices = np.linspace(0, len(train) - 1, min(len(train), count), dtype=int)
    return train.load(indices).inputs
