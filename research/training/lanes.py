"""Run lanes: one function over many stacked states in one program; the names choose how.

All functions take what `jax.vmap` takes: a function and, for each argument and result, the axis
that counts the lanes: 0, or None for what lanes share. Each may be a prefix of a tree.
"""

from collections.abc import Callable

import jax


def vmap(function: Callable, in_axes, out_axes) -> Callable:
    """Run all lanes at once: each operation gets one more axis."""
    return jax.vmap(function, in_axes, out_axes)


def map(function: Callable, in_axes, out_axes) -> Callable:
    """Run one lane after the other inside the program, by the operations of a single run."""

    def mapped(*arguments):
        leaves, structure = jax.tree.flatten(arguments)
        stacked = _stacked(in_axes, arguments)

        def lane(own):
            own = iter(own)
            merged = [
                next(own) if along else leaf for leaf, along in zip(leaves, stacked, strict=True)
            ]
            return function(*jax.tree.unflatten(structure, merged))

        own = [leaf for leaf, along in zip(leaves, stacked, strict=True) if along]
        results, structure_out = jax.tree.flatten(jax.lax.map(lane, own))
        shared_out = zip(results, _stacked(out_axes, structure_out.unflatten(results)), strict=True)
        return structure_out.unflatten([leaf if along else leaf[0] for leaf, along in shared_out])

    return mapped


def auto(function: Callable, in_axes, out_axes) -> Callable:
    """Use `map` on CPU, where `vmap` is slower and only nearly equals single runs; else `vmap`."""
    how = map if jax.default_backend() == "cpu" else vmap
    return how(function, in_axes, out_axes)


def _stacked(axes, tree) -> list[bool]:
    """Return for each leaf of a tree whether its first axis counts lanes."""

    def shared(axis):
        return axis is None

    whole = jax.tree.broadcast(axes, tree, is_leaf=shared)
    return [not shared(axis) for axis in jax.tree.leaves(whole, is_leaf=shared)]
