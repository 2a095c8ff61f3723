"""Parts of a config that do not fit together, or not with the data: refused before any work."""

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

# What makes the loss another function at each step, or its gradient not the loss's.
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

# Of the learning rate: steps so small change little, whatever the rest of the training is.
TINY = 0.01
# Schedules that may be below `TINY` half-way; the key that decides it, and what is usual.
FALL_FAST = {
    "exponential": ("final", 0.01),
    "inverse_time": ("final", 0.01),
    "polynomial": ("power", 2),
}


def check_names(config: ConfigDict) -> None:
    """Refuse names that stand for nothing, and options that nothing takes.

    It comes before the data are loaded, for that may take a while.

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
    """Refuses choices that undo each other.

    Raises:
      UserError: it names both.
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
    found = []
    if model.activation == "selu" and model.normalization != "none":
        found.append(
            "config.model.activation = 'selu' normalises by itself; config.model.normalization = "
            f"{model.normalization!r} takes that from it (made for it: 'none')"
        )
    if model.activation_gain and model.initializer.startswith("he_"):
        found.append(
            f"config.model.initializer = {model.initializer!r} has the gain of ReLU in it, and "
            "config.model.activation_gain = True multiplies by a gain once more (made for it: "
            "lecun_*, xavier_*, orthogonal)"
        )
    if config.transfer.freeze and not config.transfer.checkpoint:
        found.append(
            "config.transfer.freeze without config.transfer.checkpoint keeps weights as they were "
            "drawn, and batch norm of frozen layers at mean 0 and variance 1"
        )
    return found + usage.warnings(flatten(config)) + _tiny_rate(config)


def _tiny_rate(config: ConfigDict) -> list[str]:
    """A warning where a schedule that falls fast at first is below `TINY` for most of the training.

    It never rises, so that is where it is below half-way.
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
    """What does not fit would be noticed late, or by the system, which kills without a word."""
    limits = jax.local_devices()[0].memory_stats() or {}
    limit = limits.get("bytes_limit") or platform.physical_memory()
    size = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))
    if size > limit:
        raise UserError(
            f"config.model: its weights and the optimizer's state are {size / 2**30:.3g} GB "
            f"(allowed here: {limit / 2**30:.3g})"
        )


def check_ensemble(config: ConfigDict, train: Arrays | Records) -> None:
    """Refuses populations of streamed data, and snapshots of a schedule without cycles.

    Raises:
      UserError: it names what is allowed.
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
    """Refuses batches and durations that do not go with this many training examples.

    Raises:
      UserError: it names what is allowed.
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
    """A search along a line, and the curvature between steps, need one loss for all steps."""
    reasons = []
    if config.batch_size < examples:
        reasons.append(f"config.batch_size = {config.batch_size} (allowed: {examples}, all)")
    for key, value in flatten(config).items():
        if key in NOT_FOR_LINE_SEARCH and value not in ((), 0, "none"):
            off = flatten(default_config())[key]
            reasons.append(f"config.{key} = {value!r} (allowed: {off!r})")
    if config.model.normalization == "batch_norm":  # by parts that hold other examples each epoch
        if config.compute.microbatches > 1:
            reasons.append(f"config.compute.microbatches = {config.compute.microbatches}")
        if config.parallel.local_batch_norm:
            reasons.append("config.parallel.local_batch_norm = True")
    if reasons:
        raise UserError(
            f"config.optimizer.name = {config.optimizer.name!r} needs the same loss at every step, "
            f"which it is not by {', '.join(reasons)}"
        )
