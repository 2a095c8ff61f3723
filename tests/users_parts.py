"""Parts of a user's own, which the config names by dotted names."""

import jax.numpy as jnp
import optax
from flax import linen as nn

NUMBER = 3


class Net(nn.Module):
    """A Flax module that takes nothing of `config.model` but the number of outputs."""

    outputs: int
    width: int
    depth: int = 1

    @nn.compact
    def __call__(self, x, train: bool):
        x = x.reshape(x.shape[0], -1)
        for _ in range(self.depth):
            x = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(self.outputs, name="head")(x)


def build(layers, outputs, *, width=8):
    """A model of the package's own layers."""

    class Small(nn.Module):
        @nn.compact
        def __call__(self, x, train: bool):
            x = layers.dense(x.reshape(x.shape[0], -1), width, train)
            return layers.head(outputs)(layers.activate(x, train))

    return Small()


def swish(x, *, leaky_slope, beta=1.0):
    """x sigmoid(beta x) + leaky_slope x: a number of the section, and an option."""
    return x * nn.sigmoid(beta * x) + leaky_slope * x


def signed(*, momentum, power=0.5):
    """sign(m) |m|^power of heavy ball, without learning rate."""

    def shaped(updates, params=None):
        return {key: jnp.sign(u) * jnp.abs(u) ** power for key, u in updates.items()}

    return optax.chain(optax.trace(decay=momentum), optax.stateless(shaped))


def half(progress, step, *, share=0.5):
    """A constant factor."""
    return share * jnp.ones_like(progress)
