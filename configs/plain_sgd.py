"""The main job without its two aids: no batch norm, plain SGD, for contrast with bn_adam.py.

python -m research.main --config=configs/plain_sgd.py
"""

from configs import bn_adam


def get_config():
    config = bn_adam.get_config()
    config.model.normalization = "none"
    config.optimizer.name = "sgd"
    config.optimizer.learning_rate = 0.1
    return config
