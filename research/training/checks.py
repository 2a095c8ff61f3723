"""Refuse, before any work, parts of a config that do not fit together or do not fit the data."""

import jax
from ml_collections import ConfigDict

from research import platform
from research.config import OPTIONS, default_config, flatten, usage
from research.data.dataset import Arrays, Records
from research.data.shuffle import MAX_POSITIONS
from research.errors import UserError
from research.names import bind, check_options, numbers_of, resolve
from research.optimizers import algorithms, schedules
from research.training import hyperparameters

# Keys that make the loss differ from step to step, or the gradient differ from the loss's.
NOT_FOR_LINE_SEARCH = (
    "augmentation.names",
    "augmentation.mixing",
    "model.ghost_batch_size",
    "model.dropout_rate",
    "model.input_dropout_rate",
    "model.dropconnect_rate",
    "model.stochastic_depth_rate",
    "optimizer.sam_radius",
    "optimizer.clip_value",
    "optimizer.clip_norm",
    "optimizer.clip_adaptive",
)

# A share of the learning rate: smaller steps change little.
TINY = 0.01
# Schedules that may be below `TINY` half-way, the key that decides it, and its usual value.
FALL_FAST = {
    "exponential": ("final", 0.01),
    "inverse_time": ("final", 0.01),
    "polynomial": ("power", 2),
}


def check_names(config: ConfigDict) -> None:
    """Refuse names that do not exist, and options that nothing takes.

    This check comes before the data are loaded, because loading may take long.

    Raises:
      UserError: the first mistake.
    """
    named = usage.named(flatten(config))
    for key in OPTIONS:
        section = key.rpartition(".")[0]
        if section in config:
            at = [name for name in named if name.startswith(f"{section}.")]
            functions = [function for name in at for function in named[name]]
            check_options(section, config[section].options, functions)


def check_pairs(config: ConfigDict) -> None:
    """Refuse choices that undo each other.

    Raises:
      UserError: the line names both keys.
    """
    model = config.model
    if model.weight_standardization and model.fit_weights != "none":
        raise UserError(
            f"config.model.fit_weights = {model.fit_weights!r} scales kernels, and "
            "config.model.weight_standardization = True undoes that (allowed: either)"
        )


def warnings(config: ConfigDict) -> list[str]:
    """Return a warning for each setting that is probably a mistake."""
    model = config.model
    lines = []
    if model.activation == "selu" and model.normalization != "none":
        lines.append(
            "config.model.activation = 'selu' normalises by itself; config.model.normalization = "
            f"{model.normalization!r} takes that from it (made for it: 'none')"
        )
    if model.activation_gain and model.initializer.startswith("he_"):
        lines.append(
            f"config.model.initializer = {model.initializer!r} has the gain of ReLU in it, and "
            "config.model.activation_gain = True multiplies by a gain once more (made for it: "
            "lecun_*, xavier_*, orthogonal)"
        )
    if config.transfer.freeze and not config.transfer.checkpoint:
        lines.append(
            "config.transfer.freeze without config.transfer.checkpoint keeps weights as they were "
            "drawn, and batch norm of frozen layers at mean 0 and variance 1"
        )
    return lines + usage.warnings(flatten(config)) + _tiny_rate(config)


def _tiny_rate(config: ConfigDict) -> list[str]:
    """Warn of a schedule that falls fast, and is below `TINY` for most of the training.

    Schedules in `FALL_FAST` never rise, so it is enough to compute the factor half-way.
    """
    key, usual = FALL_FAST.get(config.schedule.name, ("", 0))
    if not key:
        return []
    function = resolve("config.schedule.name", config.schedule.name, schedules)
    schedule = bind(function, config.schedule, {})
    half_way = float(schedule(0.5, 0))
    if half_way >= TINY:
        return []
    return [
        f"config.schedule.{key} = {config.schedule[key]:g} with config.schedule.name = "
        f"{config.schedule.name!r}: half-way the rate has come down to {half_way:.2g} of "
        f"config.optimizer.learning_rate, so that most of the training is done at less than "
        f"{TINY:.0%} of it (more usual: {usual})"
    ]


def check_memory(state) -> None:
    """Refuse a state that is larger than the memory.

    Without this check the run would fail late, or the system would kill it without a message.
    """
    limits = jax.local_devices()[0].memory_stats() or {}
    limit = limits.get("bytes_limit") or platform.physical_memory()
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    if size > limit:
        raise UserError(
            f"config.model: its weights and the optimizer's state are {size / 2**30:.3g} GB "
            f"(allowed here: {limit / 2**30:.3g})"
        )


def check_ensemble(config: ConfigDict, train: Arrays | Records) -> None:
    """Refuse populations of streamed data, and snapshots of a schedule without cycles.

    Raises:
      UserError: the line names what is allowed.
    """
    members, snapshots = config.ensemble.members, config.ensemble.snapshots
    if members > 1 and isinstance(train, Records):
        raise UserError(
            f"config.ensemble.members = {members}: data of more than config.data.memory_mb come "
            "from disk in one order (allowed here: 1; `research.evaluate RUN1 RUN2` averages runs)"
        )
    if members > 1 and config.transfer.checkpoint:
        raise UserError(
            f"config.ensemble.members = {members} start from seeds of their own, not from "
            f"config.transfer.checkpoint = {config.transfer.checkpoint!r} (allowed: either)"
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


def check_sizes(config: ConfigDict, examples: int) -> None:
    """Refuse batch sizes and durations that do not fit the number of training examples.

    Raises:
      UserError: the line names what is allowed.
    """
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
    if needs_all_examples(config):
        _check_line_search(config, examples)
    seen = (hyperparameters.total_steps(config, examples) + 1) * size
    if seen > MAX_POSITIONS:
        raise UserError(
            f"config.duration = {config.duration!r} is {seen} examples (allowed: {MAX_POSITIONS})"
        )


def needs_all_examples(config: ConfigDict) -> bool:
    """Return whether the optimiser searches along a line: each step then needs the same loss."""
    algorithm = resolve("config.optimizer.name", config.optimizer.name, algorithms)
    return "line_search_steps" in numbers_of(algorithm)


def _check_line_search(config: ConfigDict, examples: int) -> None:
    """Refuse settings that change the loss from step to step.

    A line search, and an estimate of the curvature between steps, need the same loss at every step.
    """
    reasons = []
    if config.batch_size < examples:
        reasons.append(f"config.batch_size = {config.batch_size} (allowed: {examples}, all)")
    for key, value in flatten(config).items():
        if key in NOT_FOR_LINE_SEARCH and value not in ((), 0, "none"):
            off = flatten(default_config())[key]
            reasons.append(f"config.{key} = {value!r} (allowed: {off!r})")
    if config.model.normalization == "batch_norm":  # the examples of a part change with the epoch
        if config.compute.microbatches > 1:
            reasons.append(f"config.compute.microbatches = {config.compute.microbatches}")
        if config.parallel.local_batch_norm:
            reasons.append("config.parallel.local_batch_norm = True")
    if reasons:
        raise UserError(
            f"config.optimizer.name = {config.optimizer.name!r} needs the same loss at every step, "
            f"which it is not by {', '.join(reasons)}"
        )
