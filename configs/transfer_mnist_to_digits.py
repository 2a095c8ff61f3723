"""placeholder."""

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
