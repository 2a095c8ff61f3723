"""Ensembles: networks whose predictions are averaged.

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
from research.tasks import Task
from research.training import lanes, metrics, step
from research.training.metrics import StepMetrics, Sums
from research.training.state import TrainState

# Members share these fields. A shared step stays a scalar, so that conditions on it stay branches.
_SHARED = {"step": None, "preprocessing": None}
MEMBERS = TrainState(**{**dict.fromkeys(TrainState.__dataclass_fields__, 0), **_SHARED})


def initialized(config: ConfigDict, init: Callable, hyperparameters) -> TrainState:
    """Return the first state: that of one network, or those of all members, stacked.

    Args:
      config: `config.ensemble.members`; member i has the seed `config.seed` + i.
      init: hyper-parameters -> the state of one network.
      hyperparameters: the hyper-parameters of the first member.
    """
    count = config.ensemble.members
    if count == 1:
        return init(hyperparameters)
    numbers = jax.tree.map(lambda number: jnp.stack([jnp.asarray(number)] * count), hyperparameters)
    numbers |= {"seed": numbers["seed"] + jnp.arange(count, dtype=jnp.uint32)}
    # One after the other, so that the weights equal those of a single run to the bit.
    return lanes.map(init, (0,), MEMBERS)(numbers)


def member(state: TrainState, number: int) -> TrainState:
    """Return one member of a population, as the state of a single run."""
    alone = jax.tree.map(lambda leaf: leaf[number], state.replace(**_SHARED))
    return alone.replace(**{name: getattr(state, name) for name in _SHARED})


def together(config: ConfigDict, run: Callable) -> Callable:
    """Lift `run(state, data, steps) -> (state, metrics)` to all members in one program.

    One member leaves `run` as it is. The metrics of several are summed over members and examples,
    so that means are means over both; `Sums.members` has those of each.
    """
    if config.ensemble.members == 1:
        return run
    lifted = _lanes(config)(run, (MEMBERS, None, None), (MEMBERS, 0))

    def population(state, data, steps):
        state, each = lifted(state, data, steps)
        means = jax.tree.map(lambda leaf: leaf.sum(0, dtype=leaf.dtype), each.sums.means)
        return state, StepMetrics(
            sums=Sums(means, each.sums.means),
            examples=each.examples.sum(),
            learning_rate=each.learning_rate.mean(),
            skipped=each.skipped.sum(),
            first_nonfinite_step=each.first_nonfinite_step.min(),
        )

    return population


def for_each(config: ConfigDict, change: Callable) -> Callable:
    """Lift `change(state, data) -> state` to all members, with the same data."""
    if config.ensemble.members == 1:
        return change
    return _lanes(config)(change, (MEMBERS, None), MEMBERS)


def make_predict(config: ConfigDict, task: Task) -> Callable:
    """Return the pure function `predict(state, inputs) -> outputs (members, B, ...)`."""
    predict = step.make_predict(config, task)
    if config.ensemble.members == 1:
        return lambda state, inputs: predict(state, inputs)[None]
    return _lanes(config)(predict, (MEMBERS, None), 0)


def make_eval_step(config: ConfigDict, task: Task) -> Callable:
    """Return `step.make_eval_step`; for several members `Sums` of the ensemble and of each."""
    if config.ensemble.members == 1:
        return step.make_eval_step(config, task)
    forward = _lanes(config)(step.make_forward(config, task), (MEMBERS, None), 0)

    def eval_step(state: TrainState, batch) -> Sums:
        outputs, sown = forward(state, batch["inputs"])
        statistics = state.preprocessing
        targets = task.targets(batch["labels"], statistics.get("targets", {}))

        def of(outputs):
            return metrics.of_batch(task, outputs, targets, batch["mask"], statistics)

        together = jax.tree.map(lambda leaf: leaf.sum(0, dtype=leaf.dtype), sown)
        return Sums(
            metrics.with_sown(of(task.average(outputs)), together),
            metrics.with_sown(jax.vmap(of)(outputs), sown),
        )

    return eval_step


def names_of(state: TrainState) -> list[dict]:
    """Return the seed and the step of each member of a state: [{'seed': 0, 'step': 100}, ...]."""
    seeds = np.atleast_1d(np.asarray(state.hyperparameters["seed"]))
    return [{"seed": int(seed), "step": int(state.step)} for seed in seeds]


def cycle_ends(numbers: dict, count: int) -> tuple[int, ...]:
    """Return the last steps of the last cycles of cosine_restarts.

    Args:
      numbers: `hyperparameters['schedule']`, durations in steps.
      count: the number of cycles.
    """
    warmup, duration, cycles = (float(numbers[key]) for key in ("warmup", "duration", "cycles"))
    ends = [
        warmup + end * (duration - warmup) / cycles
        for end in range(int(cycles) - count + 1, int(cycles) + 1)
    ]
    return tuple(math.ceil(end - 1e-6 * duration) for end in ends)


def _lanes(config: ConfigDict) -> Callable:
    return resolve("config.ensemble.lane_mode", config.ensemble.lane_mode, lanes)
