"""A language model of characters: the help topics of Python, which ship with it.

Pre-norm transformer (Vaswani et al., 2017; Xiong et al., 2020) of 3 blocks, width 128, over 128
characters; Muon (Jordan et al., 2024).

1.85 bits per character on test, with 375 seconds of CPU on two cores of an Intel Xeon.

    python -m research.main --config=configs/char_lm.py
    python -m research.predict runs/char_lm "The statement"
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.task.name = "next_token"
    config.data.name = "text"
    config.data.context = 128
    config.batch_size = 16
    config.duration = "5 epochs"

    config.model.name = "transformer"
    config.model.blocks = 3
    config.model.width = 128
    config.model.heads = 4
    config.model.activation = "gelu"
    config.model.normalization = "layer_norm"
    config.model.initializer = "xavier_normal"

    config.optimizer.name = "muon"
    config.optimizer.learning_rate = 0.02
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.schedule.warmup = "5 percent"
    return config
