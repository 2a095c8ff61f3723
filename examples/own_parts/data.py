"""A data set: a function that returns inputs and labels, or a `Dataset`."""

import numpy as np


def rings(*, examples=1500, seed=0):
    """Return points in the plane, float32 (N, 2), and the ring of three they lie on, int (N,)."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, examples)
    angle = random.uniform(0, 2 * np.pi, examples)
    radius = 1 + labels + 0.15 * random.normal(size=examples)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)
    return points.astype(np.float32), labels
