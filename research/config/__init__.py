"""The configuration: every key declared once, defaults, checks, durations.

A config file starts from `default_config()` and assigns what differs; the command line overrides
any key (`--config.optimizer.learning_rate=0.01`). Names stand for functions (`model.activation =
'relu'` is `research.models.activations.relu`, `'my_package.layers:swish'` is the user's own),
durations are words (`'10 epochs'`, `'500 steps'`, `'5 percent'`, `'20000 examples'`; a bare number
means steps).

Keys are of two kinds. Traced ones are numbers of the mathematics: they live as traced scalars in
`TrainState.hyperparameters`, so changing one never recompiles, and a resumed run may change them.
All others decide shapes or code. A traced number whose 0 means "off" (a rate, a penalty) and which
*is* 0 in the config is left out of the compiled program altogether.
"""

from research.config.automatic import as_in, automatic_keys, resolved
from research.config.checks import check_config, check_values
from research.config.defaults import (
    default_config,
    default_search,
    section_of_options,
    unknown_key,
)
from research.config.duration import Duration
from research.config.key import Key
from research.config.keys import (
    AUTOMATIC,
    KEYS,
    LOCATIONS,
    NAMED,
    OPTIONS,
    RENAMED,
    SEARCH,
    TRACED,
    TRAINING,
    may_change_on_resume,
)
from research.config.serialization import differences, flatten, from_json, read, to_json, tuples
