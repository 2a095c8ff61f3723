"""From a config to the things a run is made of: data in splits, and the shape of the state."""

import dataclasses
import math

import jax
import numpy as np
from ml_collections import ConfigDict

from research import models, platform
from research.config import INTERVALS, check_config, default_config, flatten
from research.data import preprocessing, sources, splits, stream
from research.data.feed import preprocess
from research.data.shuffle import MAX_POSITIONS
from research.data.sources import Arrays, Records
from research.errors import UserError, unknown_name
from research.names import bind, numbers_of, resolve
from research.optimizers import algorithms
from research.training import early_stopping, ensembles, hyperparameters
from research.training.layout import Layout
from research.training.loop import Plan
from research.training.state import TrainState, init_state
from research.vocabulary import NAMED

_PROBE = 512  # examples that weights are fitted to, where they are
_CHUNK = 2**22  # numbers in float64 at a time that preprocessing is fitted to: 32 MB
# What makes the loss another function at each step, or its gradient not the loss's.
_NOT_FOR_LINE_SEARCH = (
    "augmentation.names",
    "augmentation.mixing",
    "model.ghost_batch_size",
    "model.dropout_rate",
    "model.input_dropout_rate",
    "model.dropconnect_rate",
    "model.stochastic_depth_rate",
    "optimizer.sam_radius",
)


@dataclasses.dataclass(frozen=True)
class Setup:
    """What a config stands for, before any training."""

    config: ConfigDict
    train: Arrays | Records
    validation: Arrays | Records
    test: Arrays | Records
    class_names: tuple[str, ...]
    statistics: dict  # of preprocessing, fitted on `train` alone

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
        examples = self.spread(1 if self.config.model.fit_weights == "none" else _PROBE)

        def init(numbers, statistics, inputs):
            def alone(numbers):
                return init_state(self.config, numbers, statistics, inputs, self.classes)

            return ensembles.initialized(self.config, alone, numbers)

        shapes = jax.jit(init).trace(numbers, self.statistics, examples).out_info
        _check_memory(shapes)
        placed = jax.jit(init, out_shardings=self.layout.of_state(shapes))
        return placed(numbers, self.statistics, examples)

    def spread(self, count: int) -> np.ndarray:
        """Raw inputs of at most so many training examples, from all over the split."""
        return _spread(self.train, count)

    def plan(self) -> Plan:
        """When what happens."""
        examples = len(self.train)
        numbers = hyperparameters.from_config(self.config, examples)
        every = [
            max(1.0, hyperparameters.in_steps(self.config, key, examples)) for key in INTERVALS
        ]
        return Plan(
            hyperparameters.total_steps(self.config, examples),
            *every,
            snapshots=ensembles.cycle_ends(numbers["schedule"], self.config.ensemble.snapshots),
        )


def from_config(config: ConfigDict, statistics: dict | None = None) -> Setup:
    """Checks the config, loads its data, cuts the validation split, fits the preprocessing.

    Args:
      config: the whole config.
      statistics: what preprocessing was fitted to before, if it was: `checkpoints.fitted_before`.

    Raises:
      UserError: anything in the config, or in the data, that cannot be trained on.
    """
    check_config(config)
    _check_names(config)
    Layout.from_config(config).static(config)
    dataset = sources.load(config.data)
    names = config.augmentation.names + ("cutmix",) * (config.augmentation.mixing == "cutmix")
    if names and len(dataset.train.shape) != 3:
        raise UserError(
            f"config.augmentation: {', '.join(names)} work on images, the data have shape "
            f"{dataset.train.shape} (allowed here: ())"
        )
    if isinstance(dataset.train, Arrays):
        labels = dataset.train.labels
    else:
        labels = np.zeros(len(dataset.train), np.int32)  # not read for this: cut without classes
    train, validation = map(
        dataset.train.subset,
        splits.train_validation(labels, config.data.validation, config.data.split_seed),
    )
    _check_sizes(config, len(train))
    patience = hyperparameters.in_steps(config, "early_stopping.patience", len(train))
    early_stopping.check(config, patience, len(validation))
    _check_ensemble(config, train)
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
    )


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


def _check_names(config: ConfigDict) -> None:
    """Before the data are loaded, for that may take a while."""
    for key, value in flatten(config).items():
        if key in NAMED:
            for name in value if isinstance(value, tuple) else (value,):
                resolve(f"config.{key}", name, NAMED[key])
    if config.model.name not in models.names():
        raise unknown_name("config.model.name", config.model.name, models.names())


def _check_memory(state) -> None:
    """What does not fit would be noticed late, or by the system, which kills without a word."""
    limits = jax.local_devices()[0].memory_stats() or {}
    limit = limits.get("bytes_limit") or platform.physical_memory()
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    if size > limit:
        raise UserError(
            f"config.model: its weights and the optimizer's state are {size / 2**30:.3g} GB "
            f"(allowed here: {limit / 2**30:.3g})"
        )


def _check_ensemble(config: ConfigDict, train: Arrays | Records) -> None:
    members, snapshots = config.ensemble.members, config.ensemble.snapshots
    if members > 1 and isinstance(train, Records):
        raise UserError(
            f"config.ensemble.members = {members}: data of more than config.data.memory_mb come "
            "from disk in one order (allowed here: 1; `research.evaluate RUN1 RUN2` averages runs)"
        )
    if config.seed + members > 2**32:
        raise UserError(
            f"config.ensemble.members = {members}: the last seed would be out of range "
            f"(allowed: up to {2**32 - config.seed} from config.seed = {config.seed} on)"
        )
    if not snapshots:
        return
    if config.schedule.name != "cosine_restarts":
        raise UserError(
            f"config.ensemble.snapshots = {snapshots} are the ends of cycles, and "
            f"config.schedule.name = {config.schedule.name!r} has none (allowed: 'cosine_restarts')"
        )
    cycles = config.schedule.cycles
    if cycles != int(cycles) or snapshots > cycles:
        raise UserError(
            f"config.ensemble.snapshots = {snapshots} of config.schedule.cycles = {cycles:g} "
            "(allowed: whole cycles, and at most as many snapshots)"
        )


def _check_sizes(config: ConfigDict, examples: int) -> None:
    size, parts = config.batch_size, config.compute.microbatches
    if size > examples:
        raise UserError(
            f"config.batch_size = {size} is larger than the {examples} training examples "
            f"(allowed: 1 to {examples})"
        )
    if size % parts:
        divisors = [number for number in range(1, size + 1) if size % number == 0]
        below = max(number for number in divisors if number < parts)
        above = min((number for number in divisors if number > parts), default=below)
        nearest = sorted({below, above})
        raise UserError(
            f"config.compute.microbatches = {parts} does not divide config.batch_size = {size} "
            f"(allowed: divisors, such as {' or '.join(map(str, nearest))})"
        )
    if "line_search_steps" in numbers_of(getattr(algorithms, config.optimizer.name)):
        _check_line_search(config, examples)
    seen = (hyperparameters.total_steps(config, examples) + 1) * size
    if seen > MAX_POSITIONS:
        raise UserError(
            f"config.duration = {config.duration!r} is {seen} examples (allowed: {MAX_POSITIONS})"
        )


def _check_line_search(config: ConfigDict, examples: int) -> None:
    """A search along a line, and the curvature between steps, need one loss for all steps."""
    reasons = []
    if config.batch_size < examples:
        reasons.append(f"config.batch_size = {config.batch_size} (allowed: {examples}, all)")
    for key, value in flatten(config).items():
        if key in _NOT_FOR_LINE_SEARCH and value not in ((), 0, "none"):
            off = flatten(default_config())[key]
            reasons.append(f"config.{key} = {value!r} (allowed: {off!r})")
    if reasons:
        raise UserError(
            f"config.optimizer.name = {config.optimizer.name!r} needs the same loss at every step, "
            f"which it is not by {', '.join(reasons)}"
        )
