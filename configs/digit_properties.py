"""Multi-label classification: four properties of each handwritten digit (even, prime, above four,
drawn with a loop), which ship with scikit-learn. A small CNN with batch norm.

python -m research.main --config=configs/digit_properties.py
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.task.name = "multilabel"
    config.data.name = "digit_properties"
    config.model.name = "cnn"
    config.model.channels = (16, 32)
    config.duration = "30 epochs"
    return config
