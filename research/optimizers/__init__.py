"""Build optimisers: optax chains from static names and traced numbers."""

import functools
import inspect

import jax
import optax
from ml_collections import ConfigDict

from research.names import bind, numbers_of, resolve, takes
from research.optimizers import algorithms, plateau, schedules
from research.optimizers.clipping import clipped
from research.optimizers.decay import decayed
from research.optimizers.lookahead import lookahead
from research.optimizers.multipliers import multipliers
from research.optimizers.warmup import with_warmup


def build(config: ConfigDict, hyperparameters, step) -> optax.GradientTransformationExtraArgs:
    """Return the optax chain of a config.

    Its links: clipping, update rule, decoupled weight decay, scheduled learning rate, its
    multipliers, lookahead. A rule that takes `learning_rate`, as the factories of optax do, is
    called with the scheduled rate and takes the place of that link. `update` also takes `value`,
    `grad` and `value_fn(params) -> value` of the loss, for the plateau schedule and for line
    searches.

    Each traced step builds the chain again. So every number in it may be a tracer, and the count of
    steps is kept once, in the train state.

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
    scheduled = _scheduled(config, hyperparameters, step)
    takes_link, takes_rate = takes(algorithm, "scheduled"), takes(algorithm, "learning_rate")
    algorithm = bind(algorithm, config.optimizer, numbers)
    if takes_rate:
        algorithm = functools.partial(_with_rate, algorithm, config, hyperparameters, step)
    rule = algorithm(scheduled) if takes_link else algorithm()
    decay = optax.identity()
    if config.optimizer.weight_decay and not decays_itself and not takes_rate:
        decay = decayed(numbers["weight_decay"], config.optimizer.decay_multipliers)
    # There are always six links, and the structure of their state does not depend on which numbers
    # are 0. So a resumed run may switch them on or off.
    chain = optax.chain(
        clipped(config, numbers),
        rule,
        decay,
        optax.identity() if takes_link or takes_rate else scheduled,
        _multiplied(config, hyperparameters, step),
        lookahead(config.optimizer.lookahead_steps, numbers["lookahead_share"], step),
    )
    return optax.with_extra_args_support(chain)


def _with_rate(factory, config, hyperparameters, step) -> optax.GradientTransformationExtraArgs:
    """Return the rule of a factory that takes the learning rate, such as those of optax.

    The factory is called anew at each step with the rate of that step. The weight decay of the
    config comes on top, unless the factory takes it by keyword.
    """
    watches, watched = _watched(config, hyperparameters)
    decay = hyperparameters["optimizer"]["weight_decay"]
    decays = config.optimizer.weight_decay and "weight_decay" not in numbers_of(factory)

    def rule(rate):
        return optax.with_extra_args_support(factory(learning_rate=rate))

    def init(params):
        rate = learning_rate(config, hyperparameters, step)
        return watches(), rule(rate).init(params)

    def update(updates, state, params=None, *, value=None, **extra):
        losses, inner = watched(state[0], value), state[1]
        rate = learning_rate(config, hyperparameters, step, losses)
        updates, inner = rule(rate).update(updates, inner, params, value=value, **extra)
        if decays:
            shrink = decayed(-rate * decay, config.optimizer.decay_multipliers)
            updates, _ = shrink.update(updates, optax.EmptyState(), params)
        return updates, (losses, inner)

    return optax.GradientTransformationExtraArgs(init, update)


def _scheduled(config, hyperparameters, step) -> optax.GradientTransformationExtraArgs:
    start, watched = _watched(config, hyperparameters)

    def update(updates, losses, params=None, *, value=None, **_):
        losses = watched(losses, value)
        rate = learning_rate(config, hyperparameters, step, losses)
        return jax.tree.map(lambda update: -rate * update, updates), losses

    return optax.GradientTransformationExtraArgs(lambda params: start(), update)


def _watched(config, hyperparameters):
    """Return the plateau schedule's memory of losses: the first one, and after a step's loss."""
    if not _watches_losses(_schedule(config)):
        return optax.EmptyState, lambda losses, _: losses
    return plateau.nothing_seen, bind(plateau.watched, config.schedule, hyperparameters["schedule"])


def _multiplied(config: ConfigDict, hyperparameters, step) -> optax.GradientTransformation:
    def update(updates, params):
        factors = multipliers(config, hyperparameters, params, step)
        return jax.tree.map(lambda factor, update: factor * update, factors, updates)

    return optax.stateless(update)


def learning_rate(config: ConfigDict, hyperparameters, step, opt_state=None):
    """Return the learning rate of the update after `step` earlier ones: float32 scalar.

    `opt_state` is the optimiser's state after that update, for schedules that depend on the loss;
    None: assume that the loss always fell.
    """
    numbers, schedule = hyperparameters["schedule"], _schedule(config)
    watches = _watches_losses(schedule)
    schedule = bind(schedule, config.schedule, numbers)
    if watches:
        cuts = 0.0 if opt_state is None else optax.tree.get(opt_state, "cuts")
        schedule = functools.partial(schedule, cuts=cuts)
    factor = with_warmup(schedule, step, numbers["warmup"], numbers["duration"])
    return hyperparameters["optimizer"]["learning_rate"] * factor


def _schedule(config: ConfigDict):
    return resolve("config.schedule.name", config.schedule.name, schedules)


def _watches_losses(schedule) -> bool:
    return "cuts" in inspect.signature(schedule).parameters
