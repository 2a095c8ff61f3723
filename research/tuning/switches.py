"""Numbers whose code is left out of a program where the config has them off, switched on."""

import math
from collections.abc import Iterable

from ml_collections import ConfigDict

from research.config import flatten

# Traced numbers for which the config decides whether there is code for them: where they are off;
# what turns that code into nothing; and a number that switches it on.
SWITCHES: dict[str, tuple[float, float, float]] = {
    "model.dropout_rate": (0.0, 0.0, 0.5),
    "model.input_dropout_rate": (0.0, 0.0, 0.2),
    "model.dropconnect_rate": (0.0, 0.0, 0.5),
    "model.stochastic_depth_rate": (0.0, 0.0, 0.5),
    "loss.label_smoothing": (0.0, 0.0, 0.1),
    "loss.l1": (0.0, 0.0, 1e-4),
    "loss.l2": (0.0, 0.0, 1e-4),
    "optimizer.weight_decay": (0.0, 0.0, 1e-4),
    "optimizer.clip_value": (0.0, math.inf, 1.0),
    "optimizer.clip_norm": (0.0, math.inf, 1.0),
    "optimizer.clip_adaptive": (0.0, math.inf, 0.01),
    "optimizer.max_norm": (0.0, math.inf, 3.0),
    "optimizer.layer_decay": (1.0, 1.0, 0.9),
    "optimizer.sam_radius": (0.0, 0.0, 0.05),
}


def switched_on(config: ConfigDict, keys: Iterable[str]) -> ConfigDict:
    """The config that a program for these numbers is built from: a cohort's.

    Those that are off in the config are on in it; what they are, each lane says.
    """
    config, values = config.copy_and_resolve_references(), flatten(config)
    for key in keys:
        off, _, on = SWITCHES.get(key, (None, None, None))
        if values[key] == off:
            config.update_from_flattened_dict({key: on})
    return config


def in_program(key: str, value: float) -> float:
    """What a lane is given for a number: off, the code that is there must do nothing."""
    off, neutral, _ = SWITCHES.get(key, (None, None, None))
    return neutral if value == off else value
