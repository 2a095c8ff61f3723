"""Decay weights, decoupled from the gradient."""

import jax
import optax

from research.models.leaves import is_kernel
from research.optimizers.masks import by_pattern


def decayed(weight_decay, decay_multipliers=()) -> optax.GradientTransformation:
    """Add weight_decay * parameter (Loshchilov and Hutter, 2019); may be traced.

    The learning rate multiplies this term afterwards. In the paper only the schedule multiplies the
    decay, lambda. So lambda is learning_rate * weight_decay, a thousandth of weight_decay at a rate
    of 0.001.

    The transformation has no state, unlike optax's with a mask, so that a resumed run may switch it
    on.

    Args:
      weight_decay: float, may be traced.
      decay_multipliers: (pattern, number) pairs; the number multiplies the decay of matching
        parameters. Patterns must cover every parameter; (): 1 for kernels and 0 for all else.
    """

    def update(updates, params):
        key, factors = "config.optimizer.decay_multipliers", is_kernel(params)
        if decay_multipliers:
            factors = by_pattern(key, decay_multipliers, params)
        return jax.tree.map(
            lambda update, param, factor: (
                update + weight_decay * factor * param if factor else update
            ),
            updates,
            params,
            factors,
        )

    return optax.stateless(update)
