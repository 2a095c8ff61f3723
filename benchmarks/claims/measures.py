"""The pure functions that claims are measured by."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research.models.dense import Dense


def sign_agreement(gradients: jax.Array) -> jax.Array:
    """(..., weights) -> |mean of the signs| (...): 1 where all are alike, about 0 at random."""
    return jnp.abs(jnp.sign(gradients).mean(-1))


def signs_of_neuron(batch: int, centred: bool, draws: int) -> float:
    """The mean `sign_agreement` of one neuron's 784 weight gradients.

    Inputs are uniform in [0, 1], or less 1/2 where centred; upstream gradients are N(0, 1).
    """
    layer = Dense(1)
    params = layer.init(jax.random.key(0), jnp.ones((1, 784)))

    def one(key):
        inputs_key, upstream_key = jax.random.split(key)
        inputs = jax.random.uniform(inputs_key, (batch, 784)) - 0.5 * centred
        upstream = jax.random.normal(upstream_key, (batch, 1))
        gradients = jax.grad(lambda params: (layer.apply(params, inputs) * upstream).sum())(params)
        return sign_agreement(gradients["params"]["kernel"].ravel())

    keys = jax.random.split(jax.random.key(1), draws)
    return float(jax.jit(lambda keys: jax.lax.map(one, keys))(keys).mean())


def dead_fraction(outputs: Sequence[jax.Array]) -> float:
    """The share of units that give the same for every example, so that nothing goes through them.

    Args:
      outputs: of each layer after the activation, (N, units) or (N, H, W, channels).
    """
    dead = [
        np.ptp(np.asarray(layer).reshape(-1, layer.shape[-1]), axis=0) == 0 for layer in outputs
    ]
    return float(np.concatenate(dead).mean())


def distinct_units(kernel: np.ndarray) -> int:
    """How many different columns a kernel (in, out) has."""
    return len(np.unique(np.asarray(kernel), axis=1).T)


def convergence_rate(distances: np.ndarray) -> float:
    """The factor a step, over the later half: distances (steps,) from the minimum."""
    later = np.asarray(distances, np.float64)[len(distances) // 2 :]
    return float((later[-1] / later[0]) ** (1 / (len(later) - 1)))
