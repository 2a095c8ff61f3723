"""One MLP on MNIST whose learning rate falls and restarts; its predictions at the ends of the last
four of five cycles are averaged (Huang et al., 2017, https://arxiv.org/abs/1704.00109).

98.18 % on test, log loss .0593, calibration error (ECE) .0061; the last network alone 98.11 %,
.0704, .0100. In 36 s on two cores of an AMD EPYC.

python -m research.main --config=configs/snapshot_ensemble.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "mnist"
    config.duration = "20 epochs"
    config.model.hidden = (128, 128)
    config.schedule.name = "cosine_restarts"
    config.schedule.cycles = 5.0
    config.ensemble.snapshots = 4
    return config
