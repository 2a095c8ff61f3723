"""A small convolutional net for digits, started from one trained on MNIST (Yosinski et al., 2014,
https://arxiv.org/abs/1411.1792): all layers fine-tuned, those further from the head more slowly.

Train configs/mnist_cnn.py first.

python -m research.main --config=configs/transfer_mnist_to_digits.py
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 32
    config.duration = "20 epochs"
    config.model.name = "cnn"
    config.transfer.checkpoint = "runs/mnist_cnn"
    config.transfer.preprocessing = False
    config.transfer.recalibrate = True
    config.optimizer.layer_decay = 0.5
    return config
