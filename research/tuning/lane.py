"""What one lane of a population does: pure functions of its state, its split and the data.

The state lies without its preprocessing, which lanes of one split share.
"""

from collections.abc import Callable

import jax.numpy as jnp

from research.training import divergence, executors, step
from research.training.metrics import NEVER, StepMetrics
from research.training.state import TrainState, init_state
from research.tuning.folds import Folds


def make_begin(folds: Folds) -> Callable:
    """Return the pure function `begin(hyperparameters, split, arrays) -> state`."""
    run = folds.run

    def begin(hyperparameters, split, arrays) -> TrainState:
        own = folds.own(arrays, split)
        state = init_state(
            run.config, hyperparameters, own["statistics"], own["probe"], run.task.outputs
        )
        return state.replace(preprocessing={})

    return begin


def make_train(folds: Folds) -> Callable:
    """Return the pure function `train(state, split, arrays, steps) -> (state, StepMetrics)`.

    It is `executors.resident`, the program of `research.main`, over the rows of a split.
    """
    run = folds.run
    resident = executors.resident(step.make_train_step(run.config, run.task), run.config.batch_size)

    def train(state: TrainState, split, arrays, steps) -> tuple[TrainState, StepMetrics]:
        own = folds.own(arrays, split)
        data = {name: own[name] for name in ("inputs", "labels", "rows", "examples") if name in own}
        state = state.replace(preprocessing=own["statistics"])
        state, metrics = resident(state, data, steps)
        return state.replace(preprocessing={}), metrics

    return train


def make_judge(folds: Folds) -> Callable:
    """Return the pure function `judge(state, metrics, split, arrays) -> results` of a piece.

    Results are 'train' and 'validation', `Sums` over the piece and over the validation split;
    'step'; and 'finite', whether all numbers of this lane are.
    """
    eval_step = step.make_eval_step(folds.run.config, folds.run.task)

    def judge(state: TrainState, metrics, split, arrays) -> dict:
        own = folds.own(arrays, split)

        def of_rows(state, batch):
            if "rows" in batch:
                rows = batch["rows"]
                batch = {**batch, "inputs": own["inputs"][rows], "labels": own["labels"][rows]}
            return eval_step(state, batch)

        full = state.replace(preprocessing=own["statistics"])
        sums = executors.evaluator(of_rows)(full, own["validation"])
        finite = divergence.healthy(full) & jnp.isfinite(sums.loss)
        return {
            "train": metrics.sums,
            "validation": sums,
            "step": state.step,
            "finite": finite & (metrics.first_nonfinite_step == NEVER),
        }

    return judge
