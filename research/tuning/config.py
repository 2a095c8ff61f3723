"""The section `search` of a config: every key with its default and meaning, and the checks."""

import json
import math
from typing import Any

from ml_collections import ConfigDict

from research.config import check_config, check_values, default_config, flatten, to_json
from research.errors import UserError
from research.names import resolve
from research.tuning import objective
from research.tuning.spaces import Space


def default_search() -> ConfigDict:
    """All keys of `config.search`; a config file assigns what differs, `space` at least."""
    search = ConfigDict()

    # What to try next.
    search.space = ()  # axes: linear, log, integer, choice of research/tuning/spaces.py
    search.method = "random"  # research/tuning/samplers.py
    search.seed = 0  # of the method; what is trained starts from `seed`
    search.enqueue = ()  # points that go first: tuples of (key, value) pairs
    search.grid_points = 3  # grid: values on each continuous axis
    search.acquisition = "log_expected_improvement"  # bayes: research/tuning/acquisition.py
    search.beta = 1.0  # upper_confidence_bound: bounds lie sqrt(beta) deviations from the mean
    search.rounds = 3  # coarse_to_fine: each in a narrower box
    search.round_method = "random"  # coarse_to_fine: any other method
    search.round_trials = 16  # coarse_to_fine: in each round; the last takes what is left
    search.round_shares = (0.1, 0.3, 1.0)  # coarse_to_fine: of the duration, for each round
    search.shrink = 0.4  # coarse_to_fine: width of a box, as a share of the one before

    # How much of it.
    search.trials = 64  # in all; may grow when the same search goes on
    search.objective = "validation_loss"  # or validation_accuracy, at the end of a trial
    search.segments = 10  # a trial's training is cut into so many; after each it is judged
    search.max_programs = 16  # combinations of values that decide the program, at most

    # Which trials go on.
    search.scheduler = "none"  # research/tuning/schedulers.py
    search.reduction = 3  # successive_halving, hyperband, asha: at a rung one of so many goes on
    search.grace = 1  # segments before the first rung or verdict, or between two copies
    search.median_trials = 5  # median_rule: others that have come as far, at least
    search.exploit_share = 0.2  # population_based: the worst share copies from the best
    search.explore_factor = 1.2  # population_based: copied numbers are multiplied or divided by it
    search.resample = 0.25  # population_based: how often a number is drawn anew instead

    # What the score of a trial is a mean over: folds * repeats * seeds lanes.
    search.folds = 1  # of cross-validation; 1: the validation split; all examples: leave-one-out
    search.repeats = 1  # how often the data are cut anew
    search.stratified = True  # folds have the classes' shares of the whole
    search.seeds = 1  # runs from `seed`, `seed` + 1, ... of each

    # How lanes are trained.
    search.lanes = 0  # side by side; 0: as many as trials ask for and memory allows
    search.lane_mode = "auto"  # research/tuning/lane_modes.py
    search.engine = "local"  # research/tuning/engines.py
    search.workers = 0  # ray, slurm: so many share the lanes; 0: one for each GPU or host (ray)
    search.slurm_options = ()  # slurm: of sbatch, for the job of a worker

    return search


# The numbers: low <= value < high.
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
CHOICES = {"search.objective": objective.NAMES}


def check_search(config: ConfigDict) -> Space:
    """Refuses what can be refused before any work is done.

    Args:
      config: a training config with a section `search`.

    Returns:
      The space to search.

    Raises:
      UserError: a key, a type or a value that cannot be; more programs than are allowed.
    """
    if not isinstance(config.get("search"), ConfigDict):
        raise UserError(
            "the config has no section `search`: python -m research.main trains it (allowed: "
            "config.search = default_search(), as in configs/search_bn_adam.py)"
        )
    from research.tuning import engines, lane_modes, methods, schedulers

    check_section(config)
    modules = {"scheduler": schedulers, "lane_mode": lane_modes, "engine": engines}
    for key, module in modules.items():
        resolve(f"config.search.{key}", config.search[key], module)
    methods.from_config(config.search)
    check_config(training(config))
    space = Space.from_config(config)
    programs = space.programs()
    if programs > config.search.max_programs:
        static = [key for key in space.keys if not space.is_traced(key)]
        raise UserError(
            f"config.search.space: {programs} programs to compile, one for each combination of "
            f"{', '.join(static)} (allowed: config.search.max_programs = "
            f"{config.search.max_programs})"
        )
    if not _pairs(config.search.slurm_options):
        raise UserError(
            f"config.search.slurm_options = {config.search.slurm_options!r} is no tuple of pairs "
            "(allowed: (('partition', 'gpu'), ...))"
        )
    for point in config.search.enqueue:
        if not _pairs(point):
            raise UserError(
                f"config.search.enqueue: {point!r} is no tuple of pairs (allowed: "
                "(('optimizer.learning_rate', 1e-3), ...))"
            )
        space.check(dict(point), "config.search.enqueue")
    return space


def check_section(config: ConfigDict) -> None:
    """Refuses keys, types and values that the section `search` of a config cannot have.

    Raises:
      UserError: there is one.
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


def _pairs(value: object) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(pair, tuple) and len(pair) == 2 for pair in value
    )


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
    """The config without its section `search`: what a run of its own takes."""
    return ConfigDict({key: config[key] for key in config if key != "search"})
