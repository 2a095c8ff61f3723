"""Choose the batch size and the duration by the number of training examples.

A data set of a hundred rows needs small batches and many epochs, one of a million rows does not.
The rule was chosen on small public data sets (benchmarks/small_data.py):

  batch_size = 0      the power of two below examples / 8, from 16 to 128; all examples where there
                      are fewer than 16, and for an optimiser that searches along a line
  duration = 'auto'   40 epochs, and at least 1,500 steps
"""

import math
from collections.abc import Mapping

from ml_collections import ConfigDict

from research.config.keys import AUTOMATIC
from research.config.serialization import flatten

_SMALLEST, _LARGEST, _BATCHES = 16, 128, 8
_EPOCHS, _STEPS = 40, 1500


def automatic_keys(config: ConfigDict) -> list[str]:
    """Return the keys of a config whose values are chosen from the data."""
    values = flatten(config)
    return [key for key, value in AUTOMATIC.items() if values[key] == value]


def resolved(config: ConfigDict, examples: int, full_batch: bool = False) -> ConfigDict:
    """Replace `batch_size = 0` and `duration = 'auto'` by numbers.

    The number of training examples decides them.

    Args:
      config: the whole config; it is returned unchanged if it has no such values.
      examples: number of training examples, at least 1.
      full_batch: whether the optimiser needs all examples in each step.
    """
    keys = automatic_keys(config)
    if not keys:
        return config
    config = config.copy_and_resolve_references()
    if "batch_size" in keys:
        config.batch_size = examples if full_batch else _batch_size(examples)
    if "duration" in keys:
        epochs = math.ceil(_STEPS * config.batch_size / examples)
        config.duration = f"{max(_EPOCHS, epochs)} epochs"
    return config


def as_in(earlier: Mapping | ConfigDict, config: ConfigDict) -> ConfigDict:
    """Replace values that mean 'choose from the data' by those of an earlier config.

    So two configs can be compared before any data are loaded.
    """
    keys = automatic_keys(config)
    if not keys:
        return config
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict({key: earlier[key] for key in keys})
    return config


def _batch_size(examples: int) -> int:
    wanted = 2 ** math.floor(math.log2(max(examples / _BATCHES, 1)))
    return min(examples, max(_SMALLEST, min(wanted, _LARGEST)))
