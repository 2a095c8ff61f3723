"""Draw two-dimensional toy sets, for pictures: (examples, noise, seed) -> points and labels.

Points are float32 (N, 2) of order 1, labels int32 (N,), in random order. `noise` is the standard
deviation of the normal noise that is added to each coordinate.
"""

import numpy as np


def blobs(examples: int, noise: float, seed: int):
    """Draw three round clouds on a circle."""
    random = np.random.default_rng(seed)
    labels = _labels(examples, 3, random)
    angle = 2 * np.pi * labels / 3
    return _points(np.cos(angle), np.sin(angle), noise, random), labels


def moons(examples: int, noise: float, seed: int):
    """Draw two half circles that interlock."""
    random = np.random.default_rng(seed)
    labels = _labels(examples, 2, random)
    angle = np.pi * random.random(examples)
    sign = 1 - 2 * labels
    return _points(sign * np.cos(angle) + labels - 0.5, sign * np.sin(angle) + 0.5 * labels - 0.25,
                   noise, random), labels  # fmt: skip


def spirals(examples: int, noise: float, seed: int):
    """Draw three arms that wind once around the origin."""
    random = np.random.default_rng(seed)
    labels = _labels(examples, 3, random)
    radius = 0.1 + 0.9 * random.random(examples)
    angle = 2 * np.pi * (radius + labels / 3)
    return _points(radius * np.cos(angle), radius * np.sin(angle), noise / 4, random), labels


def rings(examples: int, noise: float, seed: int):
    """Draw a disc inside a ring."""
    random = np.random.default_rng(seed)
    labels = _labels(examples, 2, random)
    angle = 2 * np.pi * random.random(examples)
    radius = np.where(labels == 1, 1.0, 0.5 * np.sqrt(random.random(examples)))
    return _points(radius * np.cos(angle), radius * np.sin(angle), noise, random), labels


def _labels(examples: int, classes: int, random) -> np.ndarray:
    return random.permutation(np.arange(examples, dtype=np.int32) % classes)


def _points(x, y, noise: float, random) -> np.ndarray:
    points = np.stack([x, y], axis=1)
    return (points + noise * random.standard_normal(points.shape)).astype(np.float32)
