"""The results of a search: its best trial, the simplest equally good one, and their configs."""

import math
import shlex
from collections.abc import Callable, Sequence
from typing import Any

from ml_collections import ConfigDict

from research import formats
from research.config import default_config, flatten
from research.training import hyperparameters
from research.tuning import methods
from research.tuning.config import training
from research.tuning.reports import metrics_in
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, FINISHED, REPLACED, STOPPED, Trial

ENDS = (FINISHED, STOPPED, DIVERGED, REPLACED)
# Regularisation: more of it makes a simpler network.
_REGULARIZES = (
    "loss.",
    "model.dropout_rate",
    "model.input_dropout_rate",
    "model.dropconnect_rate",
    "model.stochastic_depth_rate",
    "optimizer.weight_decay",
)


def best(trials: Sequence[Trial]) -> Trial | None:
    """Return the best finished trial; if none finished, the best of those that came furthest."""
    sound = [trial for trial in trials if trial.reports and trial.end != DIVERGED]
    finished = [trial for trial in sound if trial.end == FINISHED]
    if finished:
        return min(finished, key=lambda trial: trial.score)
    return min(sound, key=lambda trial: (-trial.segment, trial.score), default=None)


def all_diverged(trials: Sequence[Trial]) -> bool:
    """Return whether every trial diverged."""
    return bool(trials) and all(trial.end == DIVERGED for trial in trials)


def within_one_standard_error(trials: Sequence[Trial]) -> list[Trial]:
    """Return the finished trials within one standard error of the best; [] if it has no error."""
    winner = best(trials)
    if winner is None or not math.isfinite(winner.reports[-1]["standard_error"]):
        return []
    most = winner.score + winner.reports[-1]["standard_error"]
    return [trial for trial in trials if trial.end == FINISHED and trial.score <= most]


def simplest(trials: Sequence[Trial], space: Space, parameters: dict[int, int]) -> Trial:
    """Return the simplest of equally good trials (Breiman et al., 1984, section 3.4.3).

    It has the fewest parameters. Of several it is the most regularised one: its sum of positions on
    the axes of dropout, penalties and weight decay is the largest.

    Args:
      trials: at least one.
      space: of the search.
      parameters: number of parameters of each trial, by its number.
    """

    def regularized(trial: Trial) -> float:
        places = zip(
            space.keys, space.encode(trial.values), space.active(trial.values), strict=True
        )
        return sum(place for key, place, on in places if on and key.startswith(_REGULARIZES))

    return min(trials, key=lambda trial: (parameters[trial.number], -regularized(trial)))


def as_config(config: ConfigDict, trial: Trial) -> ConfigDict:
    """Return the training config of a trial; `research.main` trains it to the same result."""
    alone = training(config).copy_and_resolve_references()
    alone.update_from_flattened_dict(overrides(config, trial))
    return alone


def overrides(config: ConfigDict, trial: Trial) -> dict[str, Any]:
    """Return the keys that a trial sets; with the duration, if the trial is shorter."""
    values = dict(trial.values)
    if trial.segments != config.search.segments:
        values["duration"] = f"{_total_steps(config, trial)} steps"
    return values


def _total_steps(config: ConfigDict, trial: Trial) -> int:
    """Return the number of steps of a trial's schedule, whether or not it finished."""
    alone = training(config).copy_and_resolve_references()
    alone.batch_size = trial.values.get("batch_size", config.batch_size)
    last = trial.reports[-1]
    examples = round(last["step"] * alone.batch_size / last["epoch"])
    total = hyperparameters.total_steps(alone, examples)
    return round(total * trial.segments / config.search.segments)


def command_line(values: dict[str, Any]) -> str:
    """Return values as flags to paste after `python -m research.main --config=...`."""
    return " ".join(
        shlex.quote(f"--config.{key}={value if isinstance(value, str) else repr(value)}")
        for key, value in values.items()
    )


def config_file(config: ConfigDict, docstring: str) -> str:
    """Return a training config as a file of assignments, like those in configs/."""
    defaults = flatten(default_config())
    changed = [
        f"    config.{key} = {value!r}"
        for key, value in flatten(config).items()
        if key not in defaults or value != defaults[key]
    ]
    assignments = "\n".join(changed)
    return (
        f'"""{docstring}"""\n\nfrom research.config import default_config\n\n\n'
        f"def get_config():\n    config = default_config()\n{assignments}\n    return config\n"
    )


def summary(trials: Sequence[Trial]) -> dict:
    """Return the content of `summary.json`: how the trials ended, and the best one, if any.

    It does not depend on interruptions.
    """
    winner = best(trials)
    ends = {
        "trials": len(trials),
        **{end: sum(trial.end == end for trial in trials) for end in ENDS},
        "segments": sum(len(trial.reports) for trial in trials),
    }
    if winner is None:  # all diverged
        return ends
    last = winner.reports[-1]
    names = ("step", "score", "standard_error", *metrics_in(last))
    return {
        **ends,
        "best_trial": winner.number,
        "best_values": winner.values,
        **{f"best_{name}": last[name] for name in names},
    }


def score_text(config: ConfigDict, trial: Trial) -> str:
    """Return 'validation_loss 0.0812 +- 0.0031 (trial 12)' or the like."""
    objective, report = config.search.objective, trial.reports[-1]
    error = report["standard_error"]
    spread = f" +- {formats.shown(objective, error)}" if math.isfinite(error) else ""
    value = formats.shown(objective, report[objective])
    return f"{objective} {value}{spread} (trial {trial.number})"


def lines(
    config: ConfigDict,
    space: Space,
    trials: Sequence[Trial],
    parameters: Callable[[Trial], int],
) -> list[str]:
    """Return the lines that a search prints at its end; at least one trial did not diverge.

    Args:
      config: of the search.
      space: of the search.
      trials: all of them.
      parameters: returns the number of parameters of a trial's network.
    """
    winner, counts = best(trials), summary(trials)
    ends = ", ".join(f"{counts[end]} {end}" for end in ENDS if counts[end])
    text = [f"{len(trials)} trials: {ends}"]
    if not methods.left(config.search, space, trials):
        text.append("each point was tried once")
    text.append(f"best: {score_text(config, winner)}")
    text.append(f"  {command_line(overrides(config, winner))}")
    parent = winner.proposal.parent
    if parent is not None:
        text.append(
            f"  it took over the weights of trial {parent}, which had other numbers "
            "(ledger.jsonl): trained from the start it may come out otherwise"
        )
    equals = within_one_standard_error(trials)
    if len(equals) > 1:
        chosen = simplest(equals, space, {trial.number: parameters(trial) for trial in equals})
        text.append(
            f"{len(equals)} trials are within one standard error of it; the simplest: "
            f"{score_text(config, chosen)}"
        )
        if chosen is not winner:
            text.append(f"  {command_line(overrides(config, chosen))}")
    if config.search.method == "coarse_to_fine":
        for round_ in methods.rounds(config.search, space, trials):
            text += round_.warnings()
    return text


def ranges_to_try(space: Space, config: ConfigDict) -> str:
    """Return an axis of smaller learning rates to try after every trial diverged."""
    key = "optimizer.learning_rate"
    if key in space.keys:
        axis = space.axes[space.keys.index(key)]
        low = min(axis.values) if axis.kind == "choice" else axis.low
        return f"log({key!r}, {low / 1000:g}, {low:g}), below what was tried"
    rate = config.optimizer.learning_rate
    return f"log({key!r}, {rate / 1000:g}, {rate / 3:g}), below config.{key} = {rate:g}"
