"""Keys of the section `search`, which only the configs of searches have."""

import math

from research.config.key import AT_LEAST_0, COUNT, COUNT_OR_0, Key

# What to try next.
_PROPOSALS = {
    "search.space": Key(
        (),
        "Axes of the search: linear, log, integer, choice of research/tuning/spaces.py.",
        form="axes, as `(log('optimizer.learning_rate', 1e-4, 1e-1),)`",
    ),
    "search.method": Key(
        "random",
        "Method that proposes trials.",
        choices_in="research.tuning.samplers",
    ),
    "search.seed": Key(
        0,
        "Seed of the method; the trials themselves are trained from `seed`.",
        range=(0, 2**32),
        shared=True,
    ),
    "search.enqueue": Key(
        (),
        "Points that are tried first: tuples of (key, value) pairs.",
        form="points, as `((('optimizer.learning_rate', 1e-3),),)`",
    ),
    "search.grid_points": Key(
        3, "Number of values of a grid on each continuous axis.", range=COUNT
    ),
    "search.acquisition": Key(
        "log_expected_improvement",
        "How bayes ranks candidate points.",
        choices_in="research.tuning.acquisition",
    ),
    "search.beta": Key(
        1.0,
        "Bounds of upper_confidence_bound lie sqrt(beta) deviations from the mean.",
        range=AT_LEAST_0,
    ),
    "search.rounds": Key(
        3, "Number of rounds of coarse_to_fine, each in a narrower box.", range=COUNT
    ),
    "search.round_method": Key(
        "random",
        "Method of each round of coarse_to_fine: any method but itself.",
        choices_in="research.tuning.samplers",
    ),
    "search.round_trials": Key(
        16,
        "Number of trials of each round of coarse_to_fine; the last round takes the rest.",
        range=COUNT,
    ),
    "search.round_shares": Key(
        (0.1, 0.3, 1.0),
        "Share of the duration that each round of coarse_to_fine trains for.",
        range=AT_LEAST_0,
    ),
    "search.shrink": Key(
        0.4,
        "Width of the box of a round of coarse_to_fine, as a share of the box before.",
        range=AT_LEAST_0,
    ),
}

# How long to train it.
_BUDGET = {
    "search.trials": Key(
        64,
        "Number of trials in all; it may grow when the same search is continued.",
        range=COUNT,
        shared=True,
    ),
    "search.objective": Key(
        "validation_loss",
        "Metric at the end of a trial that the search improves: any that the task or `metrics` "
        "names, and that has a direction.",
        form="`validation_loss` or `validation_<metric>`",
    ),
    "search.segments": Key(
        10,
        "Number of segments of a trial's training; the trial is judged after each.",
        range=COUNT,
        shared=True,
    ),
    "search.max_programs": Key(
        16,
        "Largest number of programs, one for each combination of values that decide the program.",
        range=COUNT,
    ),
}

# Which trials go on.
_SCHEDULER = {
    "search.scheduler": Key(
        "none",
        "Rule that decides after a segment which trials go on.",
        choices_in="research.tuning.schedulers",
    ),
    "search.reduction": Key(
        3,
        "At a rung of successive_halving, hyperband or asha one trial of so many goes on.",
        range=(2, 2**31),
    ),
    "search.grace": Key(
        1,
        "Number of segments before the first rung or verdict, or between two copies.",
        range=COUNT,
    ),
    "search.median_trials": Key(
        5,
        "Least number of other trials of the same length that median_rule compares with.",
        range=COUNT,
    ),
    "search.exploit_share": Key(
        0.2,
        "Share of the worst trials that population_based replaces by copies of the best.",
        range=(0, 0.5),
    ),
    "search.explore_factor": Key(
        1.2,
        "Factor that population_based multiplies or divides copied numbers by.",
        range=(1, math.inf),
    ),
    "search.resample": Key(
        0.25,
        "Probability that population_based draws a number anew instead.",
        range=(0, 1),
    ),
}

# The score of a trial is a mean over folds * repeats * seeds lanes.
_SCORE = {
    "search.folds": Key(
        1,
        "Number of folds of cross-validation. 1 is the validation split; the number of examples is "
        "leave-one-out.",
        range=COUNT,
    ),
    "search.repeats": Key(1, "Number of times that the data are divided anew.", range=(1, 2**16)),
    "search.stratified": Key(
        True, "Whether each fold has the same share of each class as all the data."
    ),
    "search.seeds": Key(
        1,
        "Number of runs of each trial, from `seed`, `seed` + 1, ...",
        range=(1, 2**16),
    ),
}

# How lanes are trained.
_LANES = {
    "search.lanes": Key(
        0,
        "Number of lanes that are trained side by side. 0 is as many as trials ask for and memory "
        "allows.",
        range=COUNT_OR_0,
    ),
    "search.lane_mode": Key(
        "auto",
        "How the lanes share a program.",
        choices_in="research.tuning.lane_modes",
    ),
    "search.engine": Key(
        "local",
        "Where the trials are trained.",
        choices_in="research.tuning.engines",
    ),
    "search.workers": Key(
        0,
        "Number of workers that share the lanes with ray or slurm. 0 is one for each GPU, or for "
        "each host (ray).",
        range=COUNT_OR_0,
    ),
    "search.slurm_options": Key(
        (),
        "Options of sbatch for the job of a worker.",
        form="pairs, as `(('partition', 'gpu'), ('gpus-per-node', 1))`",
    ),
}

SEARCH = _PROPOSALS | _BUDGET | _SCHEDULER | _SCORE | _LANES
