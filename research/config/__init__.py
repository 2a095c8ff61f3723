"""The configuration: every key with its default and meaning, the checks, durations.

A config file starts from `default_config()` and assigns what differs; the command line overrides
any key (`--config.optimizer.learning_rate=0.01`). Names stand for functions (`model.activation =
'relu'` is `research.models.activations.relu`), durations are words (`'10 epochs'`, `'500 steps'`,
`'5 percent'`, `'20000 examples'`; a bare number means steps).

Keys are of two kinds. Those in `TRACED` are numbers of the mathematics: they live as traced
scalars in `TrainState.hyperparameters`, so changing one never recompiles, and a resumed run may
change them. All others decide shapes or code. A traced number whose 0 means "off" (a rate, a
penalty) and which *is* 0 in the config is left out of the compiled program altogether.
"""

from research.config.automatic import AUTOMATIC, as_in, automatic_keys, resolved
from research.config.checks import check_config, check_values, interval
from research.config.defaults import default_config
from research.config.duration import Duration
from research.config.limits import (
    CHOICES,
    DURATIONS,
    INTERVALS,
    LIMITS,
    LOCATIONS,
    PAIRS,
    POLICIES,
    TRACED,
    TRACED_DURATIONS,
)
from research.config.serialization import differences, flatten, from_json, read, to_json, tuples
