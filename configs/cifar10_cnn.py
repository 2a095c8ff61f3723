"""A small convolutional net with batch norm on CIFAR-10 (Krizhevsky, 2009,
https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf).

78 % on test after 10 epochs, in 11 minutes on two busy cores of an AMD EPYC (Zen 4).

python -m research.main --config=configs/cifar10_cnn.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "cifar10"
    config.duration = "10 epochs"
    config.checkpoint.every = "1 epochs"
    config.augmentation.names = ("flip", "crop")
    config.model.name = "cnn"
    config.model.channels = (32, 64, 128)
    return config
