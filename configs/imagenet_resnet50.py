"""ResNet-50 on ImageNet (He et al., 2015, https://arxiv.org/abs/1512.03385), 90 epochs.

Not trained here: no machine for it. Goyal et al. (2017, https://arxiv.org/abs/1706.02677) report
76 % top-1 with random-resized crops, which are not there; expect less.

python -m research.main --config=configs/imagenet_resnet50.py --config.data.data_dir=DIR
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.data.name = "imagenet2012"
    config.data.image_size = 224
    config.data.validation = 0.01
    config.batch_size = 256
    config.duration = "90 epochs"
    config.checkpoint.every = "1 epochs"
    config.augmentation.names = ("flip",)
    config.model.name = "resnet"
    config.model.depth = 50
    config.loss.l2 = 1e-4
    config.optimizer.name = "momentum"
    config.optimizer.learning_rate = 0.1
    config.schedule.name = "piecewise"
    config.schedule.warmup = "5 epochs"
    config.schedule.milestones = ("30 epochs", "60 epochs", "80 epochs")
    config.schedule.factor = 0.1
    config.compute.evaluation_batch_size = 256
    return config
