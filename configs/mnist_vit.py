"""A small vision transformer (Dosovitskiy et al., 2021, https://arxiv.org/abs/2010.11929) on MNIST:
49 patches of 4 x 4 pixels, 4 pre-norm blocks of width 64; Muon (Jordan et al., 2024).

98.2 % on test, with 413 seconds of CPU on two cores of an Intel Xeon.

python -m research.main --config=configs/mnist_vit.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "mnist"
    config.duration = "2 epochs"
    config.model.name = "transformer"
    config.model.blocks = 4
    config.model.width = 64
    config.model.heads = 4
    config.model.expansion = 2
    config.model.patch_size = 4
    config.model.activation = "gelu"
    config.model.normalization = "layer_norm"
    config.model.initializer = "xavier_normal"
    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = "5 percent"
    return config
