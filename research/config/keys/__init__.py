"""The declaration of every key of the config, once.

A new number is one entry in one of these files: defaults, checks, documentation and the traced
state follow from it. Numbers that a function takes by name reach it without further code.
"""

from research.config.key import Key
from research.config.keys.data import AUGMENTATION, DATA, PREPROCESSING
from research.config.keys.model import MODEL
from research.config.keys.optimizer import AVERAGING, OPTIMIZER, SCHEDULE
from research.config.keys.search import SEARCH
from research.config.keys.training import (
    CHECKPOINT,
    COMPUTE,
    EARLY_STOPPING,
    ENSEMBLE,
    LOGGING,
    LOSS,
    PARALLEL,
    TASK,
    TOP,
    TRANSFER,
)

# Of a training, in the order of the config; and with the section `search`.
TRAINING: dict[str, Key] = {
    **TOP,
    **CHECKPOINT,
    **LOGGING,
    **DATA,
    **PREPROCESSING,
    **AUGMENTATION,
    **MODEL,
    **TASK,
    **LOSS,
    **OPTIMIZER,
    **SCHEDULE,
    **AVERAGING,
    **EARLY_STOPPING,
    **TRANSFER,
    **ENSEMBLE,
    **COMPUTE,
    **PARALLEL,
}
KEYS: dict[str, Key] = TRAINING | SEARCH

# Earlier names of keys.
RENAMED = {"ensemble.lanes": "ensemble.lane_mode", "search.pieces": "search.segments"}

NAMED = tuple(key for key, declared in KEYS.items() if declared.choices_in)
OPTIONS = tuple(key for key, declared in KEYS.items() if declared.options)
LOCATIONS = tuple(key for key, declared in KEYS.items() if declared.location)
AUTOMATIC = {key: each.automatic for key, each in KEYS.items() if each.automatic is not None}
# Traced numbers; traced durations become numbers of steps in the state.
TRACED = tuple(key for key, each in KEYS.items() if each.traced and each.range)


def may_change_on_resume(key: str) -> bool:
    """Return whether a resumed run may change a key: no finite step comes out otherwise.

    Rounding aside, where other devices compute the step. Traced numbers take effect from then on.
    """
    return key in KEYS and (KEYS[key].traced or KEYS[key].resumable)
