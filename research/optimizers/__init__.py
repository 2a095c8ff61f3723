"""Optimisers: optax chains built from static names and traced numbers."""

import jax
import optax
from ml_collections import ConfigDict

from research.names import bind, numbers_of, resolve
from research.optimizers import algorithms, schedules
from research.optimizers.clipping import clipped
from research.optimizers.decay import decayed_kernels
from research.optimizers.masks import is_kernel
from research.optimizers.multipliers import multipliers
from research.optimizers.warmup import with_warmup


def build(config: ConfigDict, hyperparameters, step) -> optax.GradientTransformation:
    """The chain of a config.

    Clip, update rule, decoupled weight decay, scheduled learning rate, its multipliers.

    It is built anew inside the traced step, so that every number in it may be a tracer and the
    count of steps is kept once, in the train state.

    Args:
      config: the whole config; read for names and for what is switched off (0).
      hyperparameters: `TrainState.hyperparameters`, traced.
      step: integer scalar, the number of updates made so far.

    Raises:
      UserError: unknown optimizer or schedule name, patterns that do not fit the parameters.
    """
    numbers = hyperparameters["optimizer"]
    algorithm = resolve("config.optimizer.name", config.optimizer.name, algorithms)
    decays_itself = "weight_decay" in numbers_of(algorithm)
    algorithm = bind(algorithm, config.optimizer, numbers)
    decay = optax.identity()
    if config.optimizer.weight_decay and not decays_itself:
        decay = decayed_kernels(numbers["weight_decay"])
    # Always five links, and none with a state that depends on what is on or off: a resumed run may
    # switch either, for the structure of the optimizer's state stays.
    return optax.chain(
        clipped(config, numbers),
        algorithm(),
        decay,
        optax.scale(-learning_rate(config, hyperparameters, step)),
        _multiplied(config, hyperparameters, step),
    )


def _multiplied(config: ConfigDict, hyperparameters, step) -> optax.GradientTransformation:
    def update(updates, params):
        factors = multipliers(config, hyperparameters, params, step)
        return jax.tree.map(lambda factor, update: factor * update, factors, updates)

    return optax.stateless(update)


def learning_rate(config: ConfigDict, hyperparameters, step):
    """The learning rate of the update that follows `step` earlier ones: float32 scalar."""
    numbers = hyperparameters["schedule"]
    schedule = resolve("config.schedule.name", config.schedule.name, schedules)
    schedule = bind(schedule, config.schedule, numbers)
    factor = with_warmup(schedule, step, numbers["warmup"], numbers["duration"])
    return hyperparameters["optimizer"]["learning_rate"] * factor
