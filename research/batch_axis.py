"""The axis along which devices share a batch, for code that runs once on each of them.

Inside `shard_map` and `pmap` a function sees only its device's part of the batch; what is of the
whole batch (sums, masks, gradients) it has to ask the others for. These functions do that there,
and nothing anywhere else: so the step, the losses and the layers are written once.

The automatic sums of `shard_map(check_vma=True)` are off. Losses are made of `total`, so each
device has the loss of the whole batch, and `shared` makes the gradients those of it.
"""

import jax
import jax.numpy as jnp
from jax import lax

DATA = "data"


def name() -> str | None:
    """`DATA` where the batch is shared by hand; None elsewhere."""
    return DATA if parts() > 1 else None


def parts() -> int:
    """The number of devices that share the batch here."""
    try:
        return lax.axis_size(DATA)
    except NameError:  # jax says so where there is no such axis
        return 1


def total(tree):
    """Sums over the devices, of sums over each one's part."""
    return lax.psum(tree, DATA) if name() else tree


def whole(tree):
    """All rows of arrays of which each device has its part: (B / parts, ...) -> (B, ...)."""
    if not name():
        return tree
    return jax.tree.map(lambda array: lax.all_gather(array, DATA, tiled=True), tree)


def part(tree):
    """This device's rows of arrays that all devices have: (B, ...) -> (B / parts, ...)."""
    if not name():
        return tree

    def cut(array):
        rows = array.shape[0] // parts()
        return lax.dynamic_slice_in_dim(array, lax.axis_index(DATA) * rows, rows)

    return jax.tree.map(cut, tree)


def drawn(draw, shape):
    """`draw(shape)`, of random numbers with a row for each example: of the whole batch's draw.

    One key draws one mask for the batch, on however many devices; each takes its rows.
    """
    return part(draw((shape[0] * parts(), *shape[1:])))


def pooled(mean, var):
    """Mean and biased variance of the whole batch, from those of parts of equal size.

    var = mean(var_i + (mean_i - mean)^2) (Chan et al., 1979, eq. 2.1): variances do not average.
    """
    if not name():
        return mean, var
    center = lax.pmean(mean, DATA)
    return center, lax.pmean(var + jnp.square(mean - center), DATA)


def shared(params):
    """The parameters themselves, all alike; their gradients are averaged over the devices.

    For losses that are `total`s: the gradient of the sum of all devices' losses by the copy of one
    device, averaged, is the gradient of the loss by the parameters.
    """
    return _shared(params) if name() else params


@jax.custom_vjp
def _shared(params):
    return params


_shared.defvjp(lambda params: (params, None), lambda _, gradients: (lax.pmean(gradients, DATA),))
