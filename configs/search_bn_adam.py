"""The settings of bn_adam.py, searched: an MLP with batch norm and Adam on digits, by random search
(Bergstra and Bengio, 2012, https://jmlr.org/papers/v13/bergstra12a.html).

64 trials of 30 epochs take 3.4 s in one program, which takes 3.8 s to compile the first time, on
two cores of an AMD EPYC; 13 s from command to exit. The best has a validation loss of 0.013, and
98.0 % on test.

python -m research.search --config=configs/search_bn_adam.py
"""

from research.config import default_config
from research.tuning.config import default_search
from research.tuning.spaces import linear, log


def get_config():
    config = default_config()
    config.duration = "30 epochs"
    config.search = search = default_search()
    search.space = (
        log("optimizer.learning_rate", 1e-4, 1e-1),
        log("optimizer.weight_decay", 1e-5, 1e-1),
        linear("model.dropout_rate", 0.0, 0.5),
        linear("loss.label_smoothing", 0.0, 0.2),
    )
    search.trials = 64
    return config
