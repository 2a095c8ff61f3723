"""What a search found: its best trial, the simplest that is as good, how to train it again."""

import math
import shlex
from collections.abc import Sequence
from typing import Any

from ml_collections import ConfigDict

from research.config import default_config, flatten
from research.training import hyperparameters
from research.tuning.config import training
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, FINISHED, METRICS, REPLACED, STOPPED, Trial

ENDS = (FINISHED, STOPPED, DIVERGED, REPLACED)
# What holds a network back: more of it makes a simpler one.
_REGULARIZES = (
    "loss.",
    "model.dropout_rate",
    "model.input_dropout_rate",
    "model.dropconnect_rate",
    "model.stochastic_depth_rate",
    "optimizer.weight_decay",
)


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the lowest score of trials trained to their end, or else of the furthest ones."""
    sound = [trial for trial in trials if trial.reports and trial.end != DIVERGED]
    finished = [trial for trial in sound if trial.end == FINISHED]
    if finished:
        return min(finished, key=lambda trial: trial.score)
    return min(sound, key=lambda trial: (-trial.piece, trial.score), default=None)


def all_diverged(trials: Sequence[Trial]) -> bool:
    """Whether nothing came of any trial."""
    return bool(trials) and all(trial.end == DIVERGED for trial in trials)


def within_one_standard_error(trials: Sequence[Trial]) -> list[Trial]:
    """Finished trials that the best one is not better than for sure; [] where it has no error."""
    first = best(trials)
    if first is None or not math.isfinite(first.reports[-1]["standard_error"]):
        return []
    most = first.score + first.reports[-1]["standard_error"]
    return [trial for trial in trials if trial.end == FINISHED and trial.score <= most]


def simplest(trials: Sequence[Trial], space: Space, parameters: dict[int, int]) -> Trial:
    """Return the one to take of trials that are equally good (Breiman et al., 1984, section 3.4.3).

    It has the fewest parameters; of those it is the most regularised: furthest, in sum, on the axes
    of dropout, penalties and weight decay.

    Args:
      trials: at least one.
      space: theirs.
      parameters: how many each has, by its number.
    """

    def regularized(trial: Trial) -> float:
        places = zip(
            space.keys, space.encode(trial.values), space.active(trial.values), strict=True
        )
        return sum(place for key, place, on in places if on and key.startswith(_REGULARIZES))

    return min(trials, key=lambda trial: (parameters[trial.number], -regularized(trial)))


def as_config(config: ConfigDict, trial: Trial) -> ConfigDict:
    """Return what `research.main` trains for the same result: the trial in a training config."""
    alone = training(config).copy_and_resolve_references()
    alone.update_from_flattened_dict(overrides(config, trial))
    return alone


def overrides(config: ConfigDict, trial: Trial) -> dict[str, Any]:
    """Return the keys in which the trial differs from the config; its length if shorter."""
    values = dict(trial.values)
    if trial.pieces != config.search.pieces:
        values["duration"] = f"{_total_steps(config, trial)} steps"
    return values


def _total_steps(config: ConfigDict, trial: Trial) -> int:
    """Return what the trial's schedule was laid out for, whether or not it came to its end."""
    alone = training(config).copy_and_resolve_references()
    alone.batch_size = trial.values.get("batch_size", config.batch_size)
    last = trial.reports[-1]
    examples = round(last["step"] * alone.batch_size / last["epoch"])
    total = hyperparameters.total_steps(alone, examples)
    return round(total * trial.pieces / config.search.pieces)


def command_line(values: dict[str, Any]) -> str:
    """Values as flags to paste behind `python -m research.main --config=...`."""
    return " ".join(
        shlex.quote(f"--config.{key}={value if isinstance(value, str) else repr(value)}")
        for key, value in values.items()
    )


def config_file(config: ConfigDict, told: str) -> str:
    """Return a training config as a file like those in configs/: plain assignments.

    Args:
      config: without a search.
      told: the docstring.
    """
    defaults = flatten(default_config())
    lines = [
        f"    config.{key} = {value!r}"
        for key, value in flatten(config).items()
        if key not in defaults or value != defaults[key]
    ]
    assignments = "\n".join(lines)
    return (
        f'"""{told}"""\n\nfrom research.config import default_config\n\n\n'
        f"def get_config():\n    config = default_config()\n{assignments}\n    return config\n"
    )


def summary(trials: Sequence[Trial]) -> dict:
    """Return the contents of `summary.json`: how trials ended, and the best, if any.

    Trials that diverged are never the best. It is the same however often a search was interrupted.
    """
    found = best(trials)
    told = ("step", "score", "standard_error", *METRICS)
    ends = {
        "trials": len(trials),
        **{end: sum(trial.end == end for trial in trials) for end in ENDS},
        "pieces": sum(len(trial.reports) for trial in trials),
    }
    if found is None:  # all diverged
        return ends
    return {
        **ends,
        "best_trial": found.number,
        "best_values": found.values,
        **{f"best_{name}": found.reports[-1][name] for name in told},
    }


def ranges_to_try(space: Space, config: ConfigDict) -> str:
    """Where trials may be trained at all, when all diverged: at smaller learning rates."""
    key = "optimizer.learning_rate"
    if key in space.keys:
        axis = space.axes[space.keys.index(key)]
        low = min(axis.values) if axis.kind == "choice" else axis.low
        return f"log({key!r}, {low / 1000:g}, {low:g}), below what was tried"
    rate = config.optimizer.learning_rate
    return f"log({key!r}, {rate / 1000:g}, {rate / 3:g}), below config.{key} = {rate:g}"
