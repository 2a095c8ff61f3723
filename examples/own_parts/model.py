"""A plain Flax module. It takes the number of outputs, and options from `config.model.options`."""

import jax.numpy as jnp
from flax import linen as nn


class Gated(nn.Module):
    """A hidden layer with gated linear units (Dauphin et al., 2017): (B, ...) -> (B, outputs)."""

    outputs: int
    width: int = 64

    @nn.compact
    def __call__(self, x, train: bool):
        """Return logits; report how open the gates are."""
        x = x.reshape(len(x), -1)
        gates = nn.sigmoid(nn.Dense(self.width, name="gate")(x))
        self.sow("metrics", "open_gates", jnp.mean(gates > 0.5))
        return nn.Dense(self.outputs, name="head")(gates * nn.Dense(self.width)(x))
