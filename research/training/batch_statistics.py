"""Count the values over which batch norm computes the mean and variance of a channel.

The variance of one value is 0, so every activation becomes the normaliser's bias. Two values are
always normalised to -1 and 1.
"""

import math
from typing import NamedTuple

import jax
from flax import linen as nn

from research.errors import UserError
from research.models.batch_norm import BatchNorm
from research.optimizers.multipliers import frozen_statistics
from research.training import averages, hyperparameters

_ENOUGH = 3  # values; a batch of so many examples needs no check


class _Batch(NamedTuple):
    """Examples that batch norm normalises together."""

    examples: int
    keys: str  # keys of the config that set the number of examples
    frozen_too: bool = False  # whether layers with running statistics frozen for good count too


def check(run) -> None:
    """Refuse a `Setup` that would normalise single values.

    Raises:
      UserError: a layer has one value; the message names the layer and the keys that cause this.
    """
    for batch in _batches(run):
        _demand_two(run, batch)


def check_recalibration(run, key: str) -> None:
    """Refuse a recalibration, which `key` requests, over single values.

    Raises:
      UserError: as for `check`.
    """
    if run.config.model.normalization == "batch_norm":
        _demand_two(run, _recalibration_batch(run, key))


def warnings(run) -> list[str]:
    """Return a warning for each way in which a `Setup` would normalise pairs of values."""
    fewest = ((batch, *_fewest_values(run, batch)) for batch in _batches(run))
    return [
        f"{batch.keys}: config.model.normalization = 'batch_norm' takes the variance of two values "
        f"per channel in {layer}, which makes -1 and 1 of them, whatever they are (more usual: at "
        "least 16)"
        for batch, values, layer in fewest
        if values == 2
    ]


def _batches(run) -> list[_Batch]:
    config = run.config
    if config.model.normalization != "batch_norm":
        return []
    batches = []
    if not config.model.freeze_batch_stats:
        batches.append(_training_batch(run))
    if config.transfer.checkpoint and config.transfer.recalibrate:
        batches.append(_recalibration_batch(run, "config.transfer.recalibrate = True"))
    if averages.recalibrated(config):
        wanted = config.averaging.recalibration_examples
        keys = f"config.averaging.recalibration_examples = {wanted}"
        size, keys, _ = _recalibration_batch(run, keys)
        batches.append(_Batch(min(size, wanted), keys))
    return batches


def _training_batch(run) -> _Batch:
    config, ghost = run.config, run.config.model.ghost_batch_size
    if ghost:
        return _Batch(ghost, f"config.model.ghost_batch_size = {ghost}")
    together, keys = config.batch_size, f"config.batch_size = {config.batch_size}"
    if config.compute.microbatches > 1:
        together //= config.compute.microbatches
        keys += f", config.compute.microbatches = {config.compute.microbatches}"
    if config.parallel.local_batch_norm and run.sharding.parts > 1:
        together //= run.sharding.parts
        keys += f", config.parallel.local_batch_norm = True on {run.sharding.parts} devices"
    return _Batch(together, keys)


def _recalibration_batch(run, key: str) -> _Batch:
    size = run.config.compute.evaluation_batch_size
    keys = f"{key}, config.compute.evaluation_batch_size = {size}"
    return _Batch(min(size, len(run.train)), keys, frozen_too=True)


def _demand_two(run, batch: _Batch) -> None:
    values, layer = _fewest_values(run, batch)
    if values == 1:
        raise UserError(
            f"{batch.keys}: config.model.normalization = 'batch_norm' takes the variance of one "
            f"value per channel in {layer}, which is 0, whatever the value is (allowed: at least 2 "
            "examples at a time, or layer_norm, group_norm, none)"
        )


def _fewest_values(run, batch: _Batch) -> tuple[float, str]:
    """Return the fewest values per channel that a layer has in a batch, and the layer's path."""
    if batch.examples >= _ENOUGH:
        return batch.examples, ""
    of_example: dict[str, int] = {}

    def watch(call, arguments, keywords, context):
        module = context.module
        if isinstance(module, BatchNorm) and module.is_initializing():  # with one example
            (inputs, *_) = arguments
            of_example["/".join(module.path)] = inputs.size // inputs.shape[-1]
        return call(*arguments, **keywords)

    with nn.intercept_methods(watch):
        state = jax.eval_shape(run.init)
    if not batch.frozen_too:
        numbers = hyperparameters.from_config(run.config, len(run.train))
        trees = state.params, state.batch_stats
        for layer, still in frozen_statistics(run.config, numbers, *trees, step=0).items():
            if still is True:
                of_example.pop(layer, None)
    values = {layer: batch.examples * count for layer, count in of_example.items()}
    layer = min(values, key=values.get, default="")
    return values.get(layer, math.inf), layer
