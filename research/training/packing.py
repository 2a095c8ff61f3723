"""Pack a pytree into one vector for each dtype, because each array that is passed costs time.

A train state has some 80 leaves, most of them scalars. Passing them to a compiled program and
fetching them takes longer than many steps of a small network.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Packing:
    """Pack trees of one structure, on the host and inside programs.

    Args:
      tree: a tree of arrays or shapes.
    """

    def __init__(self, tree):
        """Read the structure, shapes and dtypes of a tree."""
        leaves, self._structure = jax.tree.flatten(tree)
        self._shapes = [leaf.shape for leaf in leaves]
        self._names = [str(leaf.dtype) for leaf in leaves]

    @property
    def sizes(self) -> dict[str, int]:
        """Return the length of each vector by dtype."""
        sizes = dict.fromkeys(self._names, 0)
        for name, shape in zip(self._names, self._shapes, strict=True):
            sizes[name] += math.prod(shape)
        return sizes

    def pack(self, tree) -> dict[str, Any]:
        """Return {dtype: vector}; NumPy if no leaf is a jax array."""
        leaves = self._structure.flatten_up_to(tree)
        numpy = not any(isinstance(leaf, jax.Array) for leaf in leaves)
        parts: dict[str, list] = {name: [] for name in self._names}
        for leaf, name in zip(leaves, self._names, strict=True):
            parts[name].append(np.ravel(leaf) if numpy else jnp.ravel(leaf))
        together = np.concatenate if numpy else jnp.concatenate
        return {name: together(vectors) for name, vectors in parts.items()}

    def unpack(self, vectors: dict[str, Any]):
        """Return the tree of packed vectors."""
        leaves, places = [], dict.fromkeys(vectors, 0)
        for name, shape in zip(self._names, self._shapes, strict=True):
            start = places[name]
            places[name] = start + math.prod(shape)
            leaves.append(vectors[name][start : places[name]].reshape(shape))
        return jax.tree.unflatten(self._structure, leaves)
