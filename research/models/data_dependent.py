"""Weights fitted to data before training, by name: (apply, variables, inputs) -> params.

Pure functions that work on every model whose hidden layers are `Dense` and `Conv`: one forward pass
in which each layer's outputs are mended before the next one sees them. `apply` is the model's own,
in evaluation mode. The head is left alone, so that the loss starts at log(classes).

A layer, or a unit, whose outputs are constant is left alone. They are where their deviation is
within the rounding of the outputs themselves, a few float32 eps of the largest one; so inputs and
weights may have any scale.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.conv import Conv
from research.models.dense import Dense

_ROUNDING = 4 * jnp.finfo(jnp.float32).eps  # of an output, relative


def none(apply, variables, inputs):
    """The weights as they are drawn."""
    return variables["params"]


def lsuv(apply, variables, inputs):
    """Scales each kernel so that its layer's outputs have variance 1 (Mishkin and Matas, 2016).

    The paper starts from `orthogonal` weights and repeats until the variance is near enough; here
    outputs are linear in the kernel, so once is exact.
    """
    return _layer_by_layer(
        apply, variables, inputs, lambda y: (0.0, _deviation(y, tuple(range(y.ndim))))
    )


def unit_variance(apply, variables, inputs):
    """Gives each unit's outputs variance 1, and mean 0 where the layer has a bias.

    Salimans and Kingma (2016), section 3; Krähenbühl et al. (2016), section 4.1.
    """

    def moments(y):
        axes = tuple(range(y.ndim - 1))
        return y.mean(axes), _deviation(y, axes)

    return _layer_by_layer(apply, variables, inputs, moments)


def _layer_by_layer(apply, variables, inputs, moments):
    params = jax.tree.map(lambda leaf: leaf, variables["params"])  # a copy to change

    def mend(call, args, kwargs, context):
        y = call(*args, **kwargs)
        path = context.module.path
        if not isinstance(context.module, (Dense, Conv)) or path[-1] == "head":
            return y
        layer = _at(params, path)
        bias = layer.get("bias", 0.0)
        mean, deviation = moments(y - bias)
        scale = jnp.where(deviation > 0, 1 / deviation, 1.0)
        shift = bias - mean * scale if "bias" in layer else 0.0
        layer["kernel"] = layer["kernel"] * scale
        if "bias" in layer:
            layer["bias"] = jnp.broadcast_to(shift, layer["bias"].shape)
        return (y - bias) * scale + shift

    with nn.intercept_methods(mend):
        apply(variables, inputs)
    return params


def _deviation(y, axes):
    """The standard deviation over some axes; 0 where it is but rounding.

    In units of the largest output, whose square neither over- nor underflows, and about the first
    one, so that the sums of a constant are exactly 0.
    """
    peak = jnp.abs(y).max(axes, keepdims=True)
    units = y / jnp.where(peak > 0, peak, 1.0)
    first = units[tuple(slice(1) if axis in axes else slice(None) for axis in range(y.ndim))]
    deviation = (units - first).std(axes)
    return jnp.where(deviation > _ROUNDING, deviation * peak.reshape(deviation.shape), 0.0)


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return tree
