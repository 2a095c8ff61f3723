"""A small convolutional net for digits, started from one trained on MNIST (Yosinski et al., 2014,
https://arxiv.org/abs/1411.1792): all layers fine-tuned, those further from the head more slowly.

Test accuracy on the digits, mean of three seeds (and splits), after 20 epochs:

                                    77 training images    1,302
  from scratch                      88.5 %                99.3 %
  all fine-tuned (this config)      83.1 %                97.8 %
  head alone (linear_probe.py)      81.3 %                95.5 %

So here transfer does not pay, perhaps because strokes on 28 x 28 pixels are 3.5 times as wide as
on 8 x 8, and the small net learns the digits quickly. A run takes 10 to 20 s on two busy cores of
an AMD EPYC.

Train configs/mnist_cnn.py first.

python -m research.main --config=configs/transfer_mnist_to_digits.py
"""

from research.config import default_config


def get_config():
    config = default_config()
    config.batch_size = 32
    config.duration = "20 epochs"
    config.model.name = "cnn"
    config.model.channels = (32, 64, 128)
    config.transfer.checkpoint = "runs/mnist_cnn"
    config.transfer.recalibrate = True
    config.optimizer.layer_decay = 0.5
    return config
