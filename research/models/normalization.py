"""Normalisers by name: (x, train, *, numbers...) -> array of the same shape and dtype.

Called inside `@nn.compact`: they may make parameters and running statistics of their own.
"""

from research.models.batch_norm import BatchNorm


def batch_norm(x, train, *, batch_norm_decay):
    """Batch normalisation with running statistics (Ioffe and Szegedy, 2015)."""
    return BatchNorm(decay=batch_norm_decay)(x, train)


def none(x, train):
    """No normalisation: layers carry biases instead."""
    return x
