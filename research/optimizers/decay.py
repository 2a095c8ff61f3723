"""Decoupled weight decay."""

import jax
import optax

from research.optimizers.masks import is_kernel


def decayed_kernels(weight_decay) -> optax.GradientTransformation:
    """Adds weight_decay * kernel (Loshchilov and Hutter, 2019); may be traced.

    No state, unlike optax's own with a mask, so that it may be switched on in a resumed run.
    """
    return optax.stateless(
        lambda updates, params: jax.tree.map(
            lambda update, param, kernel: update + weight_decay * param if kernel else update,
            updates,
            params,
            is_kernel(params),
        )
    )
