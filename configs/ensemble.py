"""Five MLPs on MNIST that differ in the seed alone, trained as one population; their predicted
probabilities are averaged (Lakshminarayanan et al., 2017, https://arxiv.org/abs/1612.01474).

98.34 % on test, log loss .0505, calibration error (ECE) .0023; each alone 98.04 +- .16 %, .0629,
.0063. In 24 s on two cores of an AMD EPYC; in CPU time, .9 to 1.1 of five runs one by one.

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
