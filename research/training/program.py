"""The compiled functions of a run."""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax

from research.training import advance, divergence, evaluation
from research.training.metrics import StepMetrics, Sums
from research.training.setup import Setup
from research.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Program:
    """The compiled functions that the loop calls, one at a time, perhaps from another thread.

    Attributes:
      advance: (state, steps) -> (state, metrics); runs the steps in one dispatch. The buffers of
        the state are donated.
      healthy: state -> whether the state is finite, a bool scalar on the device.
      evaluate: state -> sums over the validation split, {'validation': ..., other splits}; None if
        there is no validation split.
    """

    advance: Callable[[TrainState, int], tuple[TrainState, StepMetrics]]
    healthy: Callable[[TrainState], Any]
    evaluate: Callable[[TrainState], dict[str, Sums]] | None = None


def compiled(run: Setup, state: TrainState, batches: Iterator | None = None) -> Program:
    """Compile the functions of a run for states like the given one.

    Args:
      run: the run.
      state: a state, placed on the devices.
      batches: the batches of data on disk; None: the data are in memory.
    """
    return Program(
        advance=advance.over_arrays(run, state)
        if batches is None
        else advance.over_batches(run, state, batches),
        evaluate=evaluation.validation_evaluator(run, state) if len(run.validation) else None,
        healthy=jax.jit(divergence.healthy).lower(state).compile(),
    )
