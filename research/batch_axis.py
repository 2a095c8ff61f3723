"""Share a batch between devices by hand, in code that runs once on each of them.

Inside `shard_map` and `pmap` a function sees only its device's part of the batch. These functions
compute there what belongs to the whole batch: sums, masks and gradients. Elsewhere they do nothing,
so that the step, the losses and the layers are written once.

The automatic sums of `shard_map(check_vma=True)` are off. Losses are made of `total`, so each
device has the loss of the whole batch, and `shared` gives the gradients of that loss.
"""

import jax
import jax.numpy as jnp
from jax import lax

DATA = "data"


def name() -> str | None:
    """Return `DATA` if the batch is shared by hand; else None."""
    return DATA if parts() > 1 else None


def parts() -> int:
    """Return the number of devices that share the batch here."""
    try:
        return lax.axis_size(DATA)
    except NameError:  # jax raises it if there is no such axis
        return 1


def total(tree):
    """Sum over the devices the sums over their parts."""
    return lax.psum(tree, DATA) if name() else tree


def whole(tree):
    """Gather all rows of arrays of which each device has a part: (B / parts, ...) -> (B, ...)."""
    if not name():
        return tree
    return jax.tree.map(lambda array: lax.all_gather(array, DATA, tiled=True), tree)


def part(tree):
    """Return this device's rows of arrays that all devices have: (B, ...) -> (B / parts, ...)."""
    if not name():
        return tree

    def cut(array):
        rows = array.shape[0] // parts()
        return lax.dynamic_slice_in_dim(array, lax.axis_index(DATA) * rows, rows)

    return jax.tree.map(cut, tree)


def drawn(draw, shape):
    """Return this device's rows of `draw(shape)`, drawn for the whole batch.

    One key draws one mask for the batch, however many devices share it.
    """
    return part(draw((shape[0] * parts(), *shape[1:])))


def pooled(mean, var):
    """Return the mean and biased variance of the whole batch, from those of parts of equal size.

    var = mean(var_i + (mean_i - mean)^2) (Chan et al., 1979, eq. 2.1): variances do not average.
    """
    if not name():
        return mean, var
    center = lax.pmean(mean, DATA)
    return center, lax.pmean(var + jnp.square(mean - center), DATA)


def shared(params):
    """Return the parameters themselves; their gradients are averaged over the devices.

    This is for losses that are `total`s: the sum of all devices' losses has a gradient by each
    device's copy of the parameters. The average of these gradients is the gradient of the loss.
    """
    return _shared(params) if name() else params


@jax.custom_vjp
def _shared(params):
    return params


_shared.defvjp(lambda params: (params, None), lambda _, gradients: (lax.pmean(gradients, DATA),))
