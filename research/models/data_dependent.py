"""Fit weights to data before training, by name: (apply, variables, inputs) -> params.

The functions are pure and work for every model whose hidden layers are `Dense` and `Conv`. In one
forward pass they correct the outputs of each layer before the next layer sees them. `apply` is the
model's own, (variables, inputs, *, mutable), in evaluation mode. The head is left as it is, so that
the loss starts at log(outputs).

A layer, or a unit, whose outputs are constant is left as it is. Outputs count as constant if their
standard deviation is at most a few float32 eps of the largest output. So inputs and weights may
have any scale.
"""

import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from research.models.conv import Conv
from research.models.dense import Dense
from research.models.leaves import HEAD

_ROUNDING = 4 * jnp.finfo(jnp.float32).eps  # of an output, relative


def none(apply, variables, inputs):
    """Return the weights as they were drawn."""
    return variables["params"]


def lsuv(apply, variables, inputs):
    """Scale each kernel so that its layer's outputs have variance 1 (Mishkin and Matas, 2016).

    The paper starts from `orthogonal` weights and repeats until the variance is near enough. Here
    outputs are linear in the kernel, so one pass is exact.
    """
    return _layer_by_layer(
        apply, variables, inputs, lambda y: (0.0, _deviation(y, tuple(range(y.ndim))))
    )


def unit_variance(apply, variables, inputs):
    """Give each unit's outputs variance 1, and mean 0 if the layer has a bias.

    Salimans and Kingma (2016), section 3; Krähenbühl et al. (2016), section 4.1.
    """

    def moments(y):
        axes = tuple(range(y.ndim - 1))
        return y.mean(axes), _deviation(y, axes)

    return _layer_by_layer(apply, variables, inputs, moments)


def _layer_by_layer(apply, variables, inputs, moments):
    # Fitted weights leave the pass as a collection of variables, not through a closure, because the
    # layers of a recomputed block (`compute.remat`) are traced separately.
    def mend(call, args, kwargs, context):
        y = call(*args, **kwargs)
        module = context.module
        if not isinstance(module, (Dense, Conv)) or module.path[:1] == (HEAD,):
            return y
        layer = module.variables["params"]
        bias = layer.get("bias", 0.0)
        mean, deviation = moments(y - bias)
        scale = jnp.where(deviation > 0, 1 / deviation, 1.0)
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


def _deviation(y, axes):
    """Return the standard deviation over some axes; 0 if it is only rounding.

    The outputs are divided by the largest one, whose square neither over- nor underflows, and the
    first one is subtracted, so that the sums of a constant are exactly 0.
    """
    peak = jnp.abs(y).max(axes, keepdims=True)
    units = y / jnp.where(peak > 0, peak, 1.0)
    first = units[tuple(slice(1) if axis in axes else slice(None) for axis in range(y.ndim))]
    deviation = (units - first).std(axes)
    return jnp.where(deviation > _ROUNDING, deviation * peak.reshape(deviation.shape), 0.0)
