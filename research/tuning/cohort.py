"""A cohort: trials with the same static choices, which one program trains.

A trial trains m lanes, one for each split of the data (folds and repeats) and seed, in pieces. Here
is what is known of them without a program: their numbers, their lengths, and by shapes what they
will cost.
"""

import functools
import os

import jax
import numpy as np
from ml_collections import ConfigDict

from research.config import default_config, flatten
from research.errors import UserError
from research.training import executors, hyperparameters
from research.tuning import costs, lane
from research.tuning.folds import Folds


class Cohort:
    """Of a config, as `Space.program` makes it.

    Args:
      config: static choices, numbers that no trial changes, and those that trials set, switched on.
      folds: the splits of its data.
      pieces: into so many the training of `config.duration` is cut.
      seeds: runs of each trial and split, of `config.seed` and those after it.

    Raises:
      UserError: a config whose trials cannot be lanes, or has fewer steps than pieces.
    """

    def __init__(self, config: ConfigDict, folds: Folds, pieces: int, seeds: int):
        self.config, self.folds, self.pieces, self.seeds = config, folds, pieces, seeds
        self.lanes_of_trial = len(folds) * seeds
        self._numbers = functools.cache(self._numbers_of)
        total = hyperparameters.total_steps(config, min(folds.sizes))
        if total < pieces:
            raise UserError(
                f"config.duration = {config.duration!r} is {total} steps, and config.search.pieces "
                f"= {pieces} are more (allowed: at most as many pieces as steps)"
            )

    def split(self, number: int) -> int:
        """Return the index of the data split that lane `number` trains on."""
        return number // self.seeds

    def ends(self, pieces: int, number: int = 0) -> list[int]:
        """Return the steps, from 0 on, at which the pieces of a lane of a trial end."""
        return self._numbers(pieces, self.split(number))[1]

    def hyperparameters(self, values: dict[str, float], pieces: int, number: int = 0) -> dict:
        """Return the traced numbers of a lane of a trial; some are set, by key of the config."""
        numbers, _ = self._numbers(pieces, self.split(number))
        numbers = {name: dict(of) if isinstance(of, dict) else of for name, of in numbers.items()}
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            if section:
                numbers[section][name] = np.float32(value)
            else:
                numbers[name] = np.uint32(value)
        return {**numbers, "seed": numbers["seed"] + np.uint32(number % self.seeds)}

    def _numbers_of(self, pieces: int, split: int) -> tuple[dict, list[int]]:
        """Return the numbers of a trial of this length that sets none, and where its pieces end."""
        examples = self.folds.sizes[split]
        total = hyperparameters.total_steps(self.config, examples)
        ends = [round(total * piece / self.pieces) for piece in range(pieces + 1)]
        config = self.config
        if pieces != self.pieces:
            config = config.copy_and_resolve_references()
            config.duration = f"{ends[-1]} steps"
        return hyperparameters.from_config(config, examples), ends

    @functools.cached_property
    def state(self):
        """The shapes of a lane's state."""
        begin = lane.make_begin(self.folds)
        numbers = self.hyperparameters({}, self.pieces)
        return jax.eval_shape(begin, numbers, np.int32(0), self.folds.arrays)

    @property
    def parameters(self) -> int:
        """How many a network has."""
        return sum(leaf.size for leaf in jax.tree.leaves(self.state.params))

    @functools.cached_property
    def _costs(self) -> tuple[costs.Cost, costs.Cost]:
        """Of a step of one lane, and of judging it at the end of a piece."""
        number, arrays = np.int32(0), self.folds.arrays
        train, judge = lane.make_train(self.folds), lane.make_judge(self.folds)
        return (
            costs.cost(train, self.state, number, arrays, number),
            costs.cost(judge, self.state, executors.no_metrics(), number, arrays),
        )

    def seconds(self) -> float:
        """Return about how many bytes a piece of a trial takes on all devices."""
        step, verdict = self._costs
        seconds = step.seconds() * self.ends(self.pieces)[-1] / self.pieces + verdict.seconds()
        return self.lanes_of_trial * seconds

    def memory(self, trials: int, modes) -> int:
        """Bytes, about, for so many trials side by side: states, data, and what is computed.

        `modes` is of `tuning/lane_modes.py`; of several sizes of a chunk it is the largest.
        """
        devices = jax.local_device_count()
        lanes = -(-trials * self.lanes_of_trial // devices)  # on each
        size = max(modes(lanes))
        chunks = -(-lanes // size)
        at_once = min(chunks, os.cpu_count() if jax.default_backend() == "cpu" else 1)
        computed = max(of.memory for of in self._costs)
        state, data = bytes_of(self.state), bytes_of(self.folds.arrays)
        return devices * (chunks * size * state + data + at_once * size * computed)


def bytes_of(tree) -> int:
    """Of all arrays, or their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


# What has a meaning in lanes; anything else would be passed over in silence.
_ALLOWED = {
    "ensemble.members": (1,),
    "ensemble.snapshots": (0,),
    "parallel.mode": ("jit",),
    "parallel.model_devices": (1,),
    "transfer.checkpoint": (None,),
    "averaging.name": ("none",),
    "on_divergence": ("stop", "skip_step"),
    "early_stopping.patience": (default_config().early_stopping.patience,),
}


def check(config: ConfigDict) -> None:
    """Before its data are loaded.

    Raises:
      UserError: it asks for what lanes cannot do.
    """
    values = flatten(config)
    for key, allowed in _ALLOWED.items():
        if values[key] not in allowed:
            raise UserError(
                f"config.{key} = {values[key]!r} does not go with a search (allowed: "
                f"{', '.join(map(repr, allowed))})"
            )
