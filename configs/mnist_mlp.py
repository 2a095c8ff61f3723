"""784-512-512-10 with batch norm and Adam on MNIST.

python -m research.main --config=configs/mnist_mlp.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "mnist"
    config.duration = "10 epochs"
    config.model.hidden = (512, 512)
    return config
