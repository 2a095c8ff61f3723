"""A loss: (outputs, targets) -> the loss of each example. Keyword-only parameters are options."""

import jax.numpy as jnp
from jax import nn


def poly1(outputs, targets, *, epsilon=1.0):
    """Return the cross-entropy plus epsilon (1 - p) (Leng et al., 2022, eq. 6)."""
    logs = nn.log_softmax(outputs)
    share = (targets * jnp.exp(logs)).sum(-1)
    return -(targets * logs).sum(-1) + epsilon * (1 - share)
