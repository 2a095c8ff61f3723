"""An MLP with batch norm (Ioffe and Szegedy, 2015) and Adam (Kingma and Ba, 2015) on digits.

python -m research.main --config=configs/bn_adam.py
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.duration = "30 epochs"
    config.optimizer.learning_rate = 3e-3
    return config
