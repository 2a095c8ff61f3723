"""The work that is timed: a config of ours, and what it is called in the table."""

import dataclasses
import importlib

import numpy as np
from ml_collections import ConfigDict


@dataclasses.dataclass(frozen=True)
class Workload:
    """One training job, cut off after some steps."""

    title: str
    config: str  # a file of configs/
    batch_size: int
    steps: int  # in one timed round
    shape: tuple[int, ...]
    examples: int
    contenders: tuple[str, ...] = ("ours", "pytorch", "pytorch_compiled")

    def build_config(self) -> ConfigDict:
        """The config as the trainer gets it."""
        config = importlib.import_module(f"configs.{self.config}").get_config()
        config.batch_size = self.batch_size
        return config


MLP = {"config": "mnist_mlp", "shape": (28, 28, 1), "examples": 60_000}
EVERYONE = ("ours", "pytorch", "pytorch_compiled", "keras", "sklearn")

WORKLOADS = {
    "mlp128": Workload(
        "(a) MNIST 784-512-512-10, BN, Adam, batch 128: an epoch",
        batch_size=128, steps=469, contenders=EVERYONE, **MLP,
    ),
    "mlp1024": Workload(
        "(a) the same, batch 1024: an epoch",
        batch_size=1024, steps=59, contenders=EVERYONE, **MLP,
    ),
    "resnet20": Workload(
        "(b) CIFAR-10 ResNet-20, flips and crops, batch 128: 20 steps",
        "cifar10_resnet20", 128, 20, (32, 32, 3), 50_000,
    ),
    "cnn": Workload(
        "(c) MNIST CNN 32-64-128, BN, dropout, Adam, batch 128: 60 steps",
        "mnist_cnn", 128, 60, (28, 28, 1), 60_000, ("ours", "pytorch", "pytorch_compiled", "keras"),
    ),
}  # fmt: skip


def make_data(workload: Workload) -> tuple[np.ndarray, np.ndarray]:
    """Random images of the real shape: no clock here can tell them from photographs."""
    random = np.random.default_rng(0)
    images = random.integers(0, 256, (workload.examples, *workload.shape), np.uint8)
    return images, random.integers(0, 10, workload.examples).astype(np.int32)
