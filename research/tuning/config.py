"""The section `search` of a config: every key with its default, meaning and range."""

import json
import math
from typing import Any

from ml_collections import ConfigDict

from research.config import check_values, default_config, flatten, to_json
from research.errors import UserError
from research.tuning.reports import OBJECTIVES


def default_search() -> ConfigDict:
    """Return all keys of `config.search`; a config file sets what differs, at least `space`."""
    search = ConfigDict()

    # Which trials to propose.
    search.space = ()  # axes: linear, log, integer, choice of research/tuning/spaces.py
    search.method = "random"  # research/tuning/samplers.py
    search.seed = 0  # of the method; trainings use the key `seed`
    search.enqueue = ()  # points to try first: tuples of (key, value) pairs
    search.grid_points = 3  # grid: values on each continuous axis
    search.acquisition = "log_expected_improvement"  # bayes: research/tuning/acquisition.py
    search.beta = 1.0  # upper_confidence_bound: bounds are sqrt(beta) deviations from the mean
    search.rounds = 3  # coarse_to_fine: number of rounds, each in a narrower box
    search.round_method = "random"  # coarse_to_fine: any other method
    search.round_trials = 16  # coarse_to_fine: trials of each round; the last has the rest
    search.round_shares = (0.1, 0.3, 1.0)  # coarse_to_fine: share of the duration, for each round
    search.shrink = 0.4  # coarse_to_fine: width of a box, as a share of the previous box

    # How many trials, and how they are scored.
    search.trials = 64  # number of trials; may grow when a search is resumed
    search.objective = "validation_loss"  # the metric to improve; also validation_accuracy
    search.segments = 10  # number of segments of a training; a trial is judged after each
    search.max_programs = 16  # largest number of combinations of static values, each compiled once

    # Which trials continue.
    search.scheduler = "none"  # research/tuning/schedulers.py
    search.reduction = 3  # successive_halving, hyperband, asha: 1 / reduction continue at a rung
    search.grace = 1  # segments before the first rung or verdict, and between copies
    search.median_trials = 5  # median_rule: least number of other trials that came as far
    search.exploit_share = 0.2  # population_based: share of worst trials, replaced by the best
    search.explore_factor = 1.2  # population_based: factor or divisor of copied numbers
    search.resample = 0.25  # population_based: probability that a number is drawn anew

    # The score of a trial is the mean over folds * repeats * seeds lanes.
    search.folds = 1  # cross-validation; 1: the validation split; N examples: leave-one-out
    search.repeats = 1  # number of times that the data are cut anew
    search.stratified = True  # whether folds have the class shares of all data
    search.seeds = 1  # runs of each fold, from `seed`, `seed` + 1, ...

    # How lanes are trained.
    search.lanes = 0  # number side by side; 0: as many as trials need and memory allows
    search.lane_mode = "auto"  # research/tuning/lane_modes.py
    search.engine = "local"  # research/tuning/engines.py
    search.workers = 0  # ray, slurm: number of workers; 0: one for each GPU or host (ray)
    search.slurm_options = ()  # slurm: options of sbatch for the job of a worker

    return search


# Ranges of numbers: low <= value < high.
LIMITS: dict[str, tuple[float, float]] = {
    "search.seed": (0, 2**32),
    "search.grid_points": (1, 2**31),
    "search.beta": (0, math.inf),
    "search.rounds": (1, 2**31),
    "search.round_trials": (1, 2**31),
    "search.round_shares": (0, math.inf),
    "search.shrink": (0, math.inf),
    "search.trials": (1, 2**31),
    "search.segments": (1, 2**31),
    "search.max_programs": (1, 2**31),
    "search.reduction": (2, 2**31),
    "search.grace": (1, 2**31),
    "search.median_trials": (1, 2**31),
    "search.exploit_share": (0, 0.5),
    "search.explore_factor": (1, math.inf),
    "search.resample": (0, 1),
    "search.folds": (1, 2**31),
    "search.repeats": (1, 2**16),
    "search.seeds": (1, 2**16),
    "search.lanes": (0, 2**31),
    "search.workers": (0, 2**31),
}
FORMS = {
    "search.space": "axes, as `(log('optimizer.learning_rate', 1e-4, 1e-1),)`",
    "search.enqueue": "points, as `((('optimizer.learning_rate', 1e-3),),)`",
    "search.slurm_options": "pairs, as `(('partition', 'gpu'), ('gpus-per-node', 1))`",
}
CHOICES = {"search.objective": OBJECTIVES}


def check_section(config: ConfigDict) -> None:
    """Check the keys, types and ranges of the section `search` of a config.

    Raises:
      UserError: one of them is wrong.
    """
    defaults = flatten(ConfigDict({"search": default_search()}))
    check_values(flatten(ConfigDict({"search": config.search})), defaults, LIMITS, CHOICES)


# Keys of the section `search` that were renamed.
_RENAMED = {"pieces": "segments"}


def completed(values: dict[str, Any]) -> dict[str, Any]:
    """Return a config, as JSON, with today's names and the defaults of keys that it lacks."""
    search = values.get("search")
    if isinstance(search, dict):
        search = {_RENAMED.get(key, key): value for key, value in search.items()}
        values = {**values, "search": search}
    defaults = default_config()
    defaults.search = default_search()
    return _over(json.loads(to_json(defaults)), values)


def _over(defaults: Any, values: Any) -> Any:
    if not isinstance(defaults, dict) or not isinstance(values, dict):
        return values
    return defaults | {key: _over(defaults.get(key), value) for key, value in values.items()}


# Settings that work in the lanes of a search; any other value would be ignored there.
_IN_LANES = {
    "ensemble.members": (1,),
    "ensemble.snapshots": (0,),
    "parallel.mode": ("jit",),
    "parallel.model_devices": (1,),
    "transfer.checkpoint": (None,),
    "averaging.name": ("none",),
    "on_divergence": ("stop", "skip_step"),
    "early_stopping.patience": (default_config().early_stopping.patience,),
}


def check_lanes(config: ConfigDict) -> None:
    """Check that the lanes of a search can train a config.

    Raises:
      UserError: the config asks for something that lanes cannot do.
    """
    values = flatten(config)
    for key, allowed in _IN_LANES.items():
        if values[key] not in allowed:
            raise UserError(
                f"config.{key} = {values[key]!r} does not go with a search (allowed: "
                f"{', '.join(map(repr, allowed))})"
            )


def training(config: ConfigDict) -> ConfigDict:
    """Return the config without its section `search`, as a single run takes it."""
    return ConfigDict({key: config[key] for key in config if key != "search"})
