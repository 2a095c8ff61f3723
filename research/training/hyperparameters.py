"""The traced numbers of a config: a pytree of scalars that mirrors its sections."""

import numpy as np
from ml_collections import ConfigDict

from research.config import TRACED, Duration, flatten, resolved
from research.errors import UserError


def from_config(config: ConfigDict, examples: int) -> dict:
    """Return the traced numbers, with durations in steps.

    Args:
      config: the whole config.
      examples: number of training examples, the length of an epoch.

    Returns:
      {'seed': uint32, 'model': {...}, 'loss': {...}, 'optimizer': {...}, 'schedule': {...}} with
      float32 scalars, named as in the config; 'schedule' also holds 'duration', all in steps.
    """
    values = flatten(config)
    tree: dict = {"seed": np.uint32(config.seed)}
    for key in TRACED:
        if key != "seed":
            section, name = key.split(".")
            tree.setdefault(section, {})[name] = np.float32(values[key])
    total = total_steps(config, examples)
    tree["schedule"] |= {
        "duration": np.float32(total),
        "warmup": np.float32(round(in_steps(config, "schedule.warmup", examples))),
        "window": np.float32(round(in_steps(config, "schedule.window", examples))),
        "milestones": np.array(
            [
                round(_steps(config, text, "schedule.milestones", examples))
                for text in config.schedule.milestones
            ],
            np.float32,
        ),
    }
    tree["averaging"] |= {
        "start": np.float32(round(in_steps(config, "averaging.start", examples))),
        "every": np.float32(max(1.0, in_steps(config, "averaging.every", examples))),
    }
    tree["transfer"] = {
        "thaw": np.array(
            [
                _steps(config, until, "transfer.freeze", examples)
                for _, until in config.transfer.freeze
            ],
            np.float32,
        )
    }
    return tree


def total_steps(config: ConfigDict, examples: int) -> int:
    """Return the length of the training in steps.

    Raises:
      UserError: the duration is a share of itself, or less than one step.
    """
    config = resolved(config, examples)
    duration = Duration.parse(config.duration, "duration")
    if duration.unit == "percent":
        raise UserError(f"config.duration = {config.duration!r} is a share of itself")
    steps = round(duration.steps(batch_size=config.batch_size, examples=examples))
    if steps < 1:
        raise UserError(f"config.duration = {config.duration!r} is less than one step")
    return steps


def in_steps(config: ConfigDict, key: str, examples: int) -> float:
    """Return the duration at a key of the config in steps, not rounded."""
    return _steps(config, flatten(config)[key], key, examples)


def _steps(config: ConfigDict, text: str, key: str, examples: int) -> float:
    config = resolved(config, examples)
    return Duration.parse(text, key).steps(
        batch_size=config.batch_size,
        examples=examples,
        total_steps=total_steps(config, examples),
    )
