"""Weights fitted to data before training, by name: (apply, variables, inputs) -> params.

Pure functions that work on every model whose hidden layers are `Dense` and `Conv`: one forward pass
in which each layer's outputs are mended before the next one sees them. `apply` is the model's own,
in evaluation mode. The head is left alone, so that the loss starts at log(classes).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from research.models.conv import Conv
from research.models.dense import Dense

_SILENT = 1e-12  # a variance below which a layer is left alone: its weights are 0


def none(apply, variables, inputs):
    """The weights as they are drawn."""
    return variables["params"]


def lsuv(apply, variables, inputs):
    """Scales each kernel so that its layer's outputs have variance 1 (Mishkin and Matas, 2016).

    The paper starts from `orthogonal` weights and repeats until the variance is near enough; here
    outputs are linear in the kernel, so once is exact.
    """
    return _layer_by_layer(apply, variables, inputs, lambda y: (0.0, y.var()))


def unit_variance(apply, variables, inputs):
    """Gives each unit's outputs variance 1, and mean 0 where the layer has a bias.

    Salimans and Kingma (2016), section 3; Krähenbühl et al. (2016), section 4.1.
    """

    def moments(y):
        axes = tuple(range(y.ndim - 1))
        return y.mean(axes), y.var(axes)

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
        mean, variance = moments(y - bias)
        scale = jnp.where(variance > _SILENT, jax.lax.rsqrt(variance + _SILENT), 1.0)
        shift = bias - mean * scale if "bias" in layer else 0.0
        layer["kernel"] = layer["kernel"] * scale
        if "bias" in layer:
            layer["bias"] = jnp.broadcast_to(shift, layer["bias"].shape)
        return (y - bias) * scale + shift

    with nn.intercept_methods(mend):
        apply(variables, inputs)
    return params


def _at(tree, path):
    for name in path:
        tree = tree[name]
    return tree
