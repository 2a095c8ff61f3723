"""Find the likely cause of a divergence from measurements.

The cause is 'not known' if no measurement explains the divergence.
"""

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from research import processes
from research.data.feed import preprocess
from research.training import nonfinite
from research.training.input_checks import LARGE_INPUTS
from research.training.loop import Diverged
from research.training.recalibration import train_and_eval_loss
from research.training.setup import Setup
from research.training.state import TrainState

_SAMPLE = 512  # training examples that are measured
_LARGE = 10.0  # times the usual value: that of guessing for the first loss, other inputs for inputs
_UNKNOWN = "not known"
_GROWN = 10.0  # times the weights at the start, or the usual loss


class Start(NamedTuple):
    """Measurements of the state before the first step."""

    size: float  # root of the sum of all squared parameters
    loss: float  # loss of the first batch

    @classmethod
    def of(cls, state: TrainState, advance: Callable) -> "Start":
        """Measure the state before the first step; its buffers are donated."""
        size, (_, metrics) = size_of(state), advance(state, 1)
        return cls(size, nonfinite.mean_loss(metrics))


def size_of(state: TrainState) -> float:
    """Return the root of the sum of all squared parameters, summed in float64."""
    leaves = jax.tree.leaves(processes.on_host(state.params))
    return math.sqrt(sum(float(np.square(leaf, dtype=np.float64).sum()) for leaf in leaves))


def likely_cause(
    run: Setup, error: Diverged, place: nonfinite.Place, start: Start, learning_rate: float
) -> str:
    """Return the most likely cause of a divergence: a measurement, and the key to change.

    Args:
      run: the diverged run.
      error: the exception that ended the loop.
      place: the place of the first non-finite numbers.
      start: measurements of the initial state.
      learning_rate: the learning rate of the run.
    """
    config, usual = run.config, run.task.guessing_loss
    rate = f"config.optimizer.learning_rate = {learning_rate:g} is too high"
    statistics = place.before.preprocessing
    scheme = f"config.preprocessing.name = {config.preprocessing.name!r}"
    sample = _Inputs.of(statistics, [run.spread(_SAMPLE)])
    growth = size_of(place.before) / max(start.size, 1e-12)
    grown = f"{rate}: before that step weights were {growth:.3g} times as large as at the start"
    if error.what.startswith("the validation"):
        validation = _Inputs.of(statistics, nonfinite.validation_inputs(run))
        measured = _of_validation(run, place, validation, sample, scheme)
        return grown if growth > _GROWN and measured.startswith(_UNKNOWN) else measured
    batch = _Inputs.of(statistics, nonfinite.inputs_of_step(run, place.before))
    if batch.bad:
        return f"{batch.bad} of {batch.count} inputs of that step are not finite after {scheme}"
    largest = max(batch.largest, sample.largest)
    large = sample.size > LARGE_INPUTS and config.model.normalization == "none"
    first = f"the loss of the first batch was {start.loss:.4g} (usual: {usual:.3g})"
    if large or batch.largest > 1e3 * _LARGE * sample.size:
        return (
            f"inputs are too large, up to {largest:.3g}, of root mean square {sample.size:.3g} "
            f"(usual: 1) after {scheme}"
        )
    shrinking = learning_rate * max(config.optimizer.weight_decay, config.loss.l2)
    if shrinking > 2:
        return (
            "config.optimizer.weight_decay or config.loss.l2 times config.optimizer.learning_rate "
            f"is {shrinking:.3g}: weights do not shrink by that, they turn their sign and grow "
            "(allowed: less than 2)"
        )
    penalised = config.loss.l1 or config.loss.l2  # penalties add to that loss
    if not start.loss <= (_LARGE * usual if not penalised else math.inf):
        return (
            f"before any update {first}: initial weights are too large for this network (config."
            f"model.initializer_scale = {config.model.initializer_scale:g}, config.model."
            f"activation = {config.model.activation!r})"
        )
    if place.layer.endswith(nonfinite.UPDATE):
        return f"{rate}: the gradients of that step are finite, and the update is not"
    if growth > _GROWN:
        return grown
    losses = _finite(place.losses) or [start.loss]
    if losses[-1] > max(1.5 * start.loss, 3 * float(np.median(losses))):
        return f"{rate}: the training loss had risen to {losses[-1]:.4g}, {first}"
    return (
        f"{_UNKNOWN} (the training loss before it was {losses[-1]:.4g}, {first}; weights were "
        f"{growth:.3g} times as large as at the start; inputs have a root mean square of "
        f"{sample.size:.3g})"
    )


def _of_validation(
    run: Setup, place: nonfinite.Place, validation: "_Inputs", sample: "_Inputs", scheme: str
) -> str:
    """Return the likely cause of a non-finite validation loss after a finite training loss."""
    if validation.bad:
        bad = f"{validation.bad} of {validation.count} validation inputs"
        return f"{bad} are not finite after {scheme}"
    reach = (
        f"validation inputs reach {validation.largest:.3g}, those of train {sample.largest:.3g}, "
        f"after {scheme}"
    )
    if validation.largest > _LARGE * sample.largest:
        return reach
    if place.before.batch_stats and run.config.ensemble.members == 1:
        batch = run.train.load(nonfinite.rows_of_step(run, place.before))
        own, running = train_and_eval_loss(run.config, run.task, place.before, batch)
        if math.isfinite(own) and not running <= _GROWN * max(own, run.task.guessing_loss):
            return (
                f"running statistics of batch norm that do not fit the weights: a training batch "
                f"has the loss {own:.4g} by its own statistics and {running:.4g} by the running "
                f"ones (config.model.batch_norm_decay = {run.config.model.batch_norm_decay:g})"
            )
    losses = _finite(place.losses)
    trained = f"the training loss before it was {losses[-1]:.4g}; " if losses else ""
    return (
        f"{_UNKNOWN} ({trained}{reach}; config.model.activation = {run.config.model.activation!r})"
    )


def _finite(losses: Iterable[tuple[int, float]]) -> list[float]:
    """Return the losses without those of skipped steps."""
    return [loss for _, loss in losses if math.isfinite(loss)]


class _Inputs(NamedTuple):
    """Measurements of preprocessed inputs."""

    count: int
    bad: int  # number of inputs that are not finite
    size: float  # root mean square of the median finite input
    largest: float  # largest magnitude in the finite inputs

    @classmethod
    def of(cls, statistics, raw: Iterable[np.ndarray]) -> "_Inputs":
        """Measure parts (B, ...) of raw inputs, preprocessed with these statistics."""
        count, bad, squares, largest = 0, 0, [], 0.0
        for part in raw:
            inputs = np.asarray(preprocess(statistics, jnp.asarray(part)), np.float64)
            inputs = inputs.reshape(len(inputs), -1)
            finite = np.isfinite(inputs).all(1)
            count, bad = count + len(inputs), bad + int((~finite).sum())
            squares = [*squares, *np.square(inputs[finite]).mean(1)]
            largest = max(largest, np.abs(inputs[finite]).max(initial=0.0))
        return cls(count, bad, math.sqrt(np.median(squares or [0.0])), largest)
