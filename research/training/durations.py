"""Warn of durations longer than the training: their effect never happens."""

import math
from collections.abc import Iterator

from ml_collections import ConfigDict

from research.config import Duration
from research.names import numbers_of, resolve
from research.optimizers import averaging
from research.training import hyperparameters


def warnings(config: ConfigDict, examples: int) -> list[str]:
    """Return a warning for each duration that does not end within the training.

    `log_every`, `evaluate_every` and `checkpoint.every` cause no warning: a run also logs,
    evaluates and saves at its end.

    Args:
      config: the whole config.
      examples: number of training examples, the length of an epoch.
    """
    total = hyperparameters.total_steps(config, examples)
    numbers = hyperparameters.from_config(config, examples)
    in_all = f"the {total} steps of config.duration = {config.duration!r}"
    return [
        *_schedule(config, numbers["schedule"], total, in_all),
        *_average(config, numbers["averaging"], total, in_all),
        *_lookahead(config, total, in_all),
        *_early_stopping(config, examples, total, in_all),
        *_freeze(config, numbers["transfer"], total, in_all),
    ]


def _schedule(config, numbers, total: int, in_all: str) -> Iterator[str]:
    schedule, warmup = config.schedule, float(numbers["warmup"])
    if warmup > 1 and warmup >= total:
        yield (
            f"config.schedule.warmup = {schedule.warmup!r} does not end within {in_all}: the "
            f"learning rate only rises, to {total / warmup:.3g} of config.optimizer.learning_rate, "
            f"and nothing is seen of config.schedule.name = {schedule.name!r}"
        )
    if schedule.name == "piecewise":
        steps = zip(schedule.milestones, numbers["milestones"], strict=True)
        late = [repr(text) for text, step in steps if step >= total]
        if late:
            yield (
                f"config.schedule.milestones: {', '.join(late)} lie beyond {in_all}: the learning "
                "rate does not drop there"
            )
    if schedule.name == "plateau":
        windows = 1 + max(1, math.ceil(schedule.patience))  # the first one has no predecessor
        if windows * max(1.0, float(numbers["window"])) > total:
            yield (
                f"config.schedule.patience = {schedule.patience:g} windows of config.schedule."
                f"window = {schedule.window!r} do not pass within {in_all}: the learning rate is "
                "never cut"
            )
    if schedule.name == "cosine_restarts" and schedule.cycles > max(total - warmup, 1):
        yield (
            f"config.schedule.cycles = {schedule.cycles:g} are more than {in_all}: a cycle is less "
            "than a step"
        )


def _average(config, numbers, total: int, in_all: str) -> Iterator[str]:
    average = resolve("config.averaging.name", config.averaging.name, averaging)
    if "start" not in numbers_of(average):
        return
    start, every = config.averaging.start, config.averaging.every
    if numbers["start"] >= total:
        yield (
            f"config.averaging.start = {start!r} does not come within {in_all}: nothing is averaged"
        )
    elif numbers["start"] + numbers["every"] > total:
        yield (
            f"config.averaging.every = {every!r} does not pass between config.averaging.start = "
            f"{start!r} and the end of {in_all}: nothing is averaged"
        )


def _lookahead(config, total: int, in_all: str) -> Iterator[str]:
    steps = config.optimizer.lookahead_steps
    if steps > total:
        yield (
            f"config.optimizer.lookahead_steps = {steps} do not pass within {in_all}: weights "
            "never go back"
        )


def _early_stopping(config, examples: int, total: int, in_all: str) -> Iterator[str]:
    keys = ("early_stopping.patience", "evaluate_every", "checkpoint.every")
    patience, *intervals = (hyperparameters.in_steps(config, key, examples) for key in keys)
    if not patience:
        return
    every, saving = (max(1.0, interval) for interval in intervals)
    last = max(_last_before(total, every), _last_before(total, max(every, saving)))
    if last - round(every) <= patience - 1:  # as `early_stopping.verdict` decides
        yield (
            f"config.early_stopping.patience = {config.early_stopping.patience!r} does not pass "
            f"within {in_all}, evaluated each config.evaluate_every = {config.evaluate_every!r}: "
            "nothing can end it early"
        )


def _last_before(total: int, every: float) -> int:
    """Return the last rounded multiple of an interval before the end."""
    count = math.ceil(total / every)
    while round(count * every) >= total:
        count -= 1
    return round(count * every)


def _freeze(config, numbers, total: int, in_all: str) -> Iterator[str]:
    for (pattern, text), until in zip(config.transfer.freeze, numbers["thaw"], strict=True):
        duration = Duration.parse(text, "transfer.freeze")
        for_good = duration.unit == "percent" and duration.amount >= 100
        if not for_good and until > total - 1:
            yield (
                f"config.transfer.freeze: {text!r} of {pattern!r} does not end within {in_all}: "
                "they are never trained ('100 percent' freezes them for good, and saves their "
                "gradients)"
            )
