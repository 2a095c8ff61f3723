"""Weights fitted to data before training, by name: (apply, variables, inputs) -> params.

Pure functions that work on every model whose hidden layers are `Dense` and `Conv`: one forward pass
in which each layer's outputs are mended before the next one sees them. `apply` is the model's own,
(variables, inputs, *, mutable), in evaluation mode. The head is left alone, so that the loss starts
at log(classes).
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

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
    # Fitted weights leave the pass as a collection of variables, not through a closure: the layers
    # of a block that is recomputed (`compute.remat`) are traced in a program of their own.
    def mend(call, args, kwargs, context):
        y = call(*args, **kwargs)
        module = context.module
        if not isinstance(module, (Dense, Conv)) or module.path[-1] == "head":
            return y
        layer = module.variables["params"]
        bias = layer.get("bias", 0.0)
        mean, variance = moments(y - bias)
        scale = jnp.where(variance > _SILENT, jax.lax.rsqrt(variance + _SILENT), 1.0)
        shift = bias - mean * scale if "bias" in layer else 0.0
        module.put_variable("fitted", "kernel", layer["kernel"] * scale)
        if "bias" in layer:
            shifted = jnp.broadcast_to(shift, layer["bias"].shape)
            module.put_variable("fitted", "bias", shifted)
        return (y - bias) * scale + shift

    with nn.intercept_methods(mend):
        _, collections = apply(variables, inputs, mutable=["fitted"])
    fitted = flatten_dict(collections.get("fitted", {}))
    return unflatten_dict(flatten_dict(variables["params"], keep_empty_nodes=True) | fitted)
