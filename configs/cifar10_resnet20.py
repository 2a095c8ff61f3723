"""ResNet-20 on CIFAR-10, as in He et al. (2015), https://arxiv.org/abs/1512.03385, section 4.2.

The paper has 91.25 % on test. Here only a short run was made: 64 % after 2 epochs
(--config.duration='2 epochs'), in 9 minutes on two busy cores of an AMD EPYC (Zen 4). All 64,000
steps would take 8 hours there.

python -m research.main --config=configs/cifar10_resnet20.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "cifar10"
    config.data.validation = 0.1  # 45,000 to train on, as in the paper
    config.batch_size = 128
    config.duration = "64000 steps"
    config.preprocessing.name = "mean_image"
    config.augmentation.names = ("flip", "crop")
    config.model.name = "resnet"
    config.model.depth = 20
    config.loss.l2 = 1e-4
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.1
    config.schedule.name = "piecewise"
    config.schedule.milestones = ("50 percent", "75 percent")
    config.schedule.factor = 0.1
    return config
