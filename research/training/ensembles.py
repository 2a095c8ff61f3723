"""Ensembles: networks whose predicted probabilities are averaged.

A population trains `ensemble.members` networks that differ in the seed alone, in one program
(`training/lanes.py`); a snapshot ensemble keeps one network at the ends of its last cycles (Huang
et al., 2017, https://arxiv.org/abs/1704.00109). Predictions are averaged, not accuracies or
weights: p(class | x) = mean over members of p_m(class | x).
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from research.names import resolve
from research.training import lanes, loss, step
from research.training.state import TrainState

# What lies along the axis of the members: all but what they share, so that what depends on the step
# alone stays a branch or a number.
_SHARED = {"step": None, "preprocessing": None}
MEMBERS = TrainState(**{**dict.fromkeys(TrainState.__dataclass_fields__, 0), **_SHARED})


def initialized(config: ConfigDict, init: Callable, hyperparameters) -> TrainState:
    """The state that training starts from: that of one network, or those of all members, stacked.

    Args:
      config: `config.ensemble.members`; member i has the seed `config.seed` + i.
      init: hyper-parameters -> the state of one network.
      hyperparameters: of the first member.
    """
    count = config.ensemble.members
    if count == 1:
        return init(hyperparameters)
    numbers = jax.tree.map(lambda number: jnp.stack([jnp.asarray(number)] * count), hyperparameters)
    numbers |= {"seed": numbers["seed"] + jnp.arange(count, dtype=jnp.uint32)}
    # One after the other, for the weights to be those of a run alone to the bit.
    return lanes.map(init, (0,), MEMBERS)(numbers)


def member(state: TrainState, number: int) -> TrainState:
    """One member of a population, as the state of a run of its own."""
    alone = jax.tree.map(lambda leaf: leaf[number], state.replace(**_SHARED))
    return alone.replace(**{name: getattr(state, name) for name in _SHARED})


def together(config: ConfigDict, run: Callable) -> Callable:
    """Lifts `run(state, data, steps) -> (state, metrics)` to all members in one program.

    One member leaves `run` as it is. The metrics of several are sums over members and examples, so
    that means are means over both, and 'member_loss', 'member_correct' and 'member_count', each
    (members,).
    """
    if config.ensemble.members == 1:
        return run
    lifted = _lanes(config)(run, (MEMBERS, None, None), (MEMBERS, 0))

    def population(state, data, steps):
        state, metrics = lifted(state, data, steps)
        return state, {
            **_named(metrics),
            **{name: metrics[name].sum() for name in ("loss", "correct", "count", "skipped")},
            "learning_rate": metrics["learning_rate"].mean(),
            "first_nonfinite_step": metrics["first_nonfinite_step"].min(),
        }

    return population


def for_each(config: ConfigDict, change: Callable) -> Callable:
    """Lifts `change(state, data) -> state` to all members, for the same data."""
    if config.ensemble.members == 1:
        return change
    return _lanes(config)(change, (MEMBERS, None), MEMBERS)


def make_predict(config: ConfigDict, classes: int) -> Callable:
    """The pure function `predict(state, inputs) -> logits (members, B, classes)`."""
    predict = step.make_predict(config, classes)
    if config.ensemble.members == 1:
        return lambda state, inputs: predict(state, inputs)[None]
    return _lanes(config)(predict, (MEMBERS, None), 0)


def make_eval_step(config: ConfigDict, classes: int) -> Callable:
    """`step.make_eval_step`; of several members the ensemble's sums, and each one's beside."""
    if config.ensemble.members == 1:
        return step.make_eval_step(config, classes)
    predict = make_predict(config, classes)

    def eval_step(state: TrainState, batch) -> dict:
        logits = predict(state, batch["inputs"])
        targets = jax.nn.one_hot(batch["labels"], classes)
        each = jax.vmap(lambda logits: loss.sums(logits, targets, batch["mask"]))(logits)
        return {**loss.sums(averaged(logits), targets, batch["mask"]), **_named(each)}

    return eval_step


def averaged(logits: jax.Array) -> jax.Array:
    """Logs of the mean probabilities: logits (members, B, classes) -> (B, classes).

    log mean_m softmax(z_m) = logsumexp_m(log softmax(z_m)) - log(members).
    """
    logs = jax.nn.log_softmax(logits.astype(jnp.float32))
    return jax.nn.logsumexp(logs, axis=0) - np.log(len(logits))


def names_of(state: TrainState) -> list[dict]:
    """What tells the members of a state from all others: [{'seed': 0, 'step': 100}, ...]."""
    seeds = np.atleast_1d(np.asarray(state.hyperparameters["seed"]))
    return [{"seed": int(seed), "step": int(state.step)} for seed in seeds]


def cycle_ends(numbers: dict, count: int) -> tuple[int, ...]:
    """The steps at which cosine_restarts has come down: before the first step of the next cycle.

    Args:
      numbers: `hyperparameters['schedule']`, durations in steps.
      count: how many, the last ones.
    """
    warmup, duration, cycles = (float(numbers[key]) for key in ("warmup", "duration", "cycles"))
    ends = [
        warmup + end * (duration - warmup) / cycles
        for end in range(int(cycles) - count + 1, int(cycles) + 1)
    ]
    return tuple(math.ceil(end - 1e-6 * duration) for end in ends)


def _lanes(config: ConfigDict) -> Callable:
    return resolve("config.ensemble.lane_mode", config.ensemble.lane_mode, lanes)


def _named(metrics: dict) -> dict:
    return {f"member_{name}": metrics[name] for name in ("loss", "correct", "count")}
