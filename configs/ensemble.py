"""Five MLPs on MNIST that differ in the seed alone, trained as one population; their predicted
probabilities are averaged (Lakshminarayanan et al., 2017, https://arxiv.org/abs/1612.01474).

python -m research.main --config=configs/ensemble.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "mnist"
    config.duration = "10 epochs"
    config.model.hidden = (128, 128)
    config.ensemble.members = 5
    return config
