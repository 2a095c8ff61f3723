"""A multi-layer perceptron: affine map, normaliser, activation and dropout; a linear head."""

import math

from flax import linen as nn
from ml_collections import ConfigDict

from research.models.layers import Layers

# Keys of `config.model` that not every model uses.
USES = ("hidden",)


class MLP(nn.Module):
    """Map inputs of any shape (B, ...), flattened, to outputs (B, outputs)."""

    layers: Layers
    hidden: tuple[int, ...]
    outputs: int

    @nn.compact
    def __call__(self, x, train: bool):
        """Map float inputs (B, ...) to outputs (B, outputs)."""
        x = self.layers.inputs(x, train)
        x = x.reshape(x.shape[0], math.prod(x.shape[1:]))

        def hidden(_, x, features):
            x = self.layers.dense(x, features, train)
            x = self.layers.activate(x, train)
            return self.layers.dropout(x, train)

        for features in self.hidden:
            x = self.layers.block(hidden, self, x, features)
        return self.layers.head(self.outputs)(x)


def build(model: ConfigDict, layers: Layers, outputs: int) -> MLP:
    """Return the model of `config.model`."""
    return MLP(layers, tuple(model.hidden), outputs)
