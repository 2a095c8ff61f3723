"""Find the step and the layer of a divergence by training again from a good state."""

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research.data.shuffle import batch_epochs, batch_indices
from research.optimizers.masks import leaves_by_path
from research.training import ensembles
from research.training.divergence import all_finite, healthy
from research.training.loop import Diverged
from research.training.metrics import StepMetrics
from research.training.setup import Setup
from research.training.state import TrainState
from research.training.step import make_predict, make_train_step

UPDATE = "its update"


class Place(NamedTuple):
    """The place of the first non-finite numbers."""

    step: int
    layer: str  # layer and part, such as 'Dense_1: its output'; '' if unknown
    before: TrainState  # state before that step; after it, if the validation loss is non-finite
    losses: tuple[tuple[int, float], ...]  # steps, each with the mean loss since the previous one


def find(
    run: Setup,
    error: Diverged,
    state: TrainState,
    advance: Callable,
    interrupted: Callable[[], bool],
) -> Place:
    """Find the first step with non-finite numbers, and the layer that produced them.

    Repeat the steps of the last dispatch one by one.

    Args:
      run: the diverged run.
      error: the exception that ended the loop.
      state: the state of the last checkpoint, or the initial state; its buffers are donated.
      advance: as in `loop.fit`.
      interrupted: returns True to end the search.

    Returns:
      The first such step, the first such layer in it, and the state and losses before it.
    """
    step, check, losses = int(state.step), jax.jit(healthy), []
    while step < error.since:  # in parts, so that a signal can interrupt
        if interrupted():
            return Place(error.step, "", state, tuple(losses))
        steps = min(error.since - step, max(error.step - error.since, 1))
        state, metrics = advance(state, steps)
        step += steps
        losses.append((step, mean_loss(metrics)))
    while step < error.step:
        before = jax.tree.map(jnp.copy, state)
        state, metrics = advance(state, 1)
        step += 1
        if metrics.skipped or not np.isfinite(metrics.loss) or not check(state):
            places = ((prefix, _of_step(run, state)) for prefix, state in _each(run, before))
            layer = next((prefix + layer for prefix, layer in places if layer), "")
            return Place(step, layer, before, tuple(losses))
        losses.append((step, mean_loss(metrics)))
    predict = make_predict(run.config, run.task)
    layers = (
        _first_layer(predict, state, inputs)[0]
        for _, state in _each(run, state)
        for inputs in validation_inputs(run)
    )
    return Place(step, next(filter(None, layers), ""), state, tuple(losses))


def _each(run: Setup, state: TrainState) -> Iterator[tuple[str, TrainState]]:
    """Yield each member of an ensemble, or the one network, with a prefix that names it."""
    count = run.config.ensemble.members
    if count == 1:
        yield "", state
        return
    for number in range(count):
        yield f"member {number}, ", ensembles.member(state, number)


def mean_loss(metrics: StepMetrics) -> float:
    """Return the mean loss of an example from metrics of `advance`; NaN if it skipped all steps."""
    total, weight = metrics.sums.means["loss"]
    return float(total) / (float(weight) or math.nan)


def inputs_of_step(run: Setup, state: TrainState) -> Iterator[np.ndarray]:
    """Yield the raw inputs of the step after a state, for each member of an ensemble."""
    for _, member in _each(run, state):
        yield run.train.load(rows_of_step(run, member)).inputs


def rows_of_step(run: Setup, state: TrainState) -> np.ndarray:
    """Return the indices of the training examples in the step after one network's state."""
    size, seed = run.config.batch_size, state.hyperparameters["seed"]
    return np.asarray(batch_indices(seed, state.step, size, len(run.train)))


def _of_step(run: Setup, state: TrainState) -> str:
    bad = _not_finite(state.params)
    if bad:
        return f"{bad[0]}: before the step"
    indices = rows_of_step(run, state)
    examples = run.train.load(indices)
    batch = {"inputs": examples.inputs, "labels": examples.labels}
    epochs = batch_epochs(state.step, run.config.batch_size, len(run.train))
    batch |= {"indices": indices, "epochs": epochs}
    config = run.sharding.static(run.config).copy_and_resolve_references()
    config.on_divergence = "stop"
    for key in ("clip_value", "clip_norm", "clip_adaptive"):  # a norm would spread NaN to all
        config.optimizer[key] = 0.0
    step = make_train_step(config, run.task)
    layer, order, (after, metrics) = _first_layer(step, state, batch)
    if layer:
        return layer
    if not np.isfinite(metrics.loss):
        return "the loss itself"
    bad = _not_finite(after.params)
    # The backward pass starts at the layer nearest to the loss.
    bad.sort(key=lambda path: order.get(path.rpartition("/")[0], -1))
    if bad:
        stays, _ = jax.jit(step)(_without_rate(state), batch)
        path = bad[-1]
        return f"{path}: its gradient" if path in _not_finite(stays.params) else f"{path}: {UPDATE}"
    return "" if healthy(after) else "the moments of the optimizer"


def _first_layer(function: Callable, state: TrainState, argument) -> tuple[str, dict, object]:
    """Run `function(state, argument)` and check the outputs of all layers.

    Returns:
      The first layer whose output is not finite ('' if there is none), the position of each layer's
      path in the order of calls, and the result of the function.
    """
    order: dict[str, int] = {}
    bad: set[str] = set()

    def note(path: str, finite) -> None:
        if not finite:
            bad.add(path)

    def watch(call, arguments, keywords, context):
        outputs = call(*arguments, **keywords)
        if context.method_name == "__call__":
            path = "/".join(context.module.path)
            order.setdefault(path, len(order))
            order[""] = len(order)  # the model itself comes last
            jax.debug.callback(lambda finite: note(path, finite), all_finite(outputs))
        return outputs

    def watched(state, argument):
        with nn.intercept_methods(watch):
            return function(state, argument)

    result = jax.device_get(jax.jit(watched)(state, argument))
    jax.effects_barrier()
    first = min(bad, key=order.get, default=None)
    return "" if first is None else f"{first or 'logits'}: its output", order, result


def validation_inputs(run: Setup) -> Iterator[np.ndarray]:
    """Yield the raw inputs of the validation split, in parts."""
    size = run.config.compute.evaluation_batch_size
    for start in range(0, len(run.validation), size):
        indices = np.arange(start, min(start + size, len(run.validation)))
        yield run.validation.load(indices).inputs


def _without_rate(state: TrainState) -> TrainState:
    """Set the learning rate to 0.

    A non-finite result then comes from the gradient, not from the update.
    """
    numbers = state.hyperparameters
    optimizer = numbers["optimizer"]
    optimizer = {**optimizer, "learning_rate": 0 * optimizer["learning_rate"]}
    return state.replace(hyperparameters={**numbers, "optimizer": optimizer})


def _not_finite(params) -> list[str]:
    leaves = leaves_by_path(params)
    return [path for path, leaf in leaves.items() if not np.isfinite(leaf).all()]
