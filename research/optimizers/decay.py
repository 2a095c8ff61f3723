"""Decoupled weight decay."""

import jax
import optax

from research.optimizers.masks import by_pattern, is_kernel


def decayed(weight_decay, decay_multipliers=()) -> optax.GradientTransformation:
    """Adds weight_decay * parameter (Loshchilov and Hutter, 2019); may be traced.

    What is added is multiplied by the learning rate afterwards; theirs, lambda, by the schedule
    alone: it is learning_rate * weight_decay, a thousandth of weight_decay at a rate of 0.001.

    No state, unlike optax's own with a mask, so that it may be switched on in a resumed run.

    Args:
      weight_decay: float, may be traced.
      decay_multipliers: (pattern, number) pairs that it is multiplied by, and that must cover every
        parameter; (): 1 for kernels and 0 for all else.
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
