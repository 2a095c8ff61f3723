"""An MLP with batch norm (Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167) and Adam
(Kingma and Ba, 2015, https://arxiv.org/abs/1412.6980) on digits.

97.5 to 98.0 % on test over seeds 0 to 2, in 4 s (8 s the first time) on two cores of an AMD EPYC.

python -m research.main --config=configs/bn_adam.py
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.duration = "30 epochs"
    config.optimizer.learning_rate = 3e-3
    return config
