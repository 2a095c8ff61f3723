"""X"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "cifar10"
    config.duration = "1 epochs"
    config.preprocessing.name = "patch_whitening"
    config.model.name = "cnn"
    config.model.channels = (32, 64)
    config.model.normalization = "none"
    return config
