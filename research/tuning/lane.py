"""The lanes of a trial, one for each data split and seed, and the pure functions that train a lane.

The state of a lane is kept without its preprocessing, which lanes of the same split share.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from research.errors import UserError
from research.training import divergence, executors, hyperparameters, step
from research.training.metrics import NEVER, StepMetrics
from research.training.state import TrainState, init_state
from research.tuning.folds import Folds


def make_begin(folds: Folds) -> Callable:
    """Return the pure function `begin(hyperparameters, split, arrays) -> state` before any step."""
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

    It applies `executors.resident`, as `research.main` does, to the rows of a split.
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
    """Return the pure function `judge(state, metrics, split, arrays) -> results`.

    It evaluates a lane at the end of a segment. Results are 'train' and 'validation', the `Sums`
    over the segment and over the validation split; 'step'; and 'finite', whether all numbers of
    this lane are finite.
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


class TrialLanes:
    """The data split, hyper-parameters and segment ends of each lane of a trial.

    They hold for all trials with the same static choices. `number` is the lane's within its trial.

    Args:
      config: static choices, numbers that no trial changes, and numbers that trials set, switched
        on, as `Space.program` makes it.
      folds: the splits of the data.
      segments: the number of segments in a training of `config.duration`.
      seeds: runs of each trial and split, with the seeds `config.seed`, `config.seed` + 1, ...

    Raises:
      UserError: the training has fewer steps than segments.
    """

    def __init__(self, config: ConfigDict, folds: Folds, segments: int, seeds: int):
        self.config, self.folds, self.segments, self.seeds = config, folds, segments, seeds
        self._numbers = functools.cache(self._numbers_of)
        total = hyperparameters.total_steps(config, min(folds.sizes))
        if total < segments:
            raise UserError(
                f"config.duration = {config.duration!r} is {total} steps, and "
                f"config.search.segments = {segments} are more (allowed: at most as many segments "
                "as steps)"
            )

    def __len__(self) -> int:
        return len(self.folds) * self.seeds

    def split(self, number: int) -> int:
        """Return the index of the data split that lane `number` trains on."""
        return number // self.seeds

    def ends(self, segments: int, number: int = 0) -> list[int]:
        """Return the steps at which the segments of a trial of this length end, from step 0 on."""
        return self._numbers(segments, self.split(number))[1]

    def hyperparameters(self, values: dict[str, float], segments: int, number: int = 0) -> dict:
        """Return the traced hyper-parameters of a lane in a trial of this length.

        Args:
          values: what the trial sets, by key of the config.
          segments: the length of the trial.
          number: of the lane.
        """
        shared, _ = self._numbers(segments, self.split(number))
        numbers = {key: dict(part) if isinstance(part, dict) else part
                   for key, part in shared.items()}  # fmt: skip
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            if section:
                numbers[section][name] = np.float32(value)
            else:
                numbers[name] = np.uint32(value)
        return {**numbers, "seed": numbers["seed"] + np.uint32(number % self.seeds)}

    def _numbers_of(self, segments: int, split: int) -> tuple[dict, list[int]]:
        """Return the hyper-parameters of a trial that sets none, and where its segments end."""
        examples = self.folds.sizes[split]
        total = hyperparameters.total_steps(self.config, examples)
        ends = [round(total * segment / self.segments) for segment in range(segments + 1)]
        config = self.config
        if segments != self.segments:
            config = config.copy_and_resolve_references()
            config.duration = f"{ends[-1]} steps"
        return hyperparameters.from_config(config, examples), ends

    @functools.cached_property
    def state(self) -> TrainState:
        """Return the shapes of the state of one lane."""
        begin = make_begin(self.folds)
        numbers = self.hyperparameters({}, self.segments)
        return jax.eval_shape(begin, numbers, np.int32(0), self.folds.arrays)

    @property
    def parameters(self) -> int:
        """Return the number of parameters of a network."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.state.params))
