"""Eight SELU layers without a normaliser (Klambauer et al., 2017, https://arxiv.org/abs/1706.02515)
on MNIST: LeCun weights and alpha dropout keep mean 0 and variance 1.

98.1 % on test, in 38 s on two cores of an Intel Xeon (Sapphire Rapids).

python -m research.main --config=configs/selu.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 128
    config.duration = "10 epochs"
    config.data.name = "mnist"
    config.preprocessing.name = "global_standard"
    config.model.hidden = (256,) * 8
    config.model.activation = "selu"
    config.model.initializer = "lecun_normal"
    config.model.normalization = "none"
    config.model.dropout = "alpha_dropout"
    config.model.dropout_rate = 0.05
    config.optimizer.learning_rate = 5e-4
    return config
