"""Normalisers by name: traced numbers -> a module factory; modules are called with (x, train)."""

import functools
from collections.abc import Callable

from flax import linen as nn

from research.models.batch_norm import BatchNorm


def batch_norm(numbers) -> Callable[[], nn.Module]:
    """Batch normalisation with running statistics (Ioffe and Szegedy, 2015)."""
    return functools.partial(BatchNorm, decay=numbers["batch_norm_decay"])


def none(numbers) -> Callable[[], nn.Module]:
    """No normalisation: layers carry biases instead."""
    return _Identity


class _Identity(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        return x
