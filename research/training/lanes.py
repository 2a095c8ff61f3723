"""Lanes: one function over many stacked states in one program; here by name, how they are run.

All take what `jax.vmap` takes: a function, and for its arguments and results the axis that counts
the lanes, 0, or None for what they share; each a prefix of the whole tree.
"""

from collections.abc import Callable

import jax


def vmap(function: Callable, in_axes, out_axes) -> Callable:
    """All lanes at once: each operation gets an axis more."""
    return jax.vmap(function, in_axes, out_axes)


def map(function: Callable, in_axes, out_axes) -> Callable:
    """One lane after the other inside the program: the operations of a run alone."""

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
    """`map` on CPU, where `vmap` costs more and equals runs alone but nearly; else `vmap`."""
    how = map if jax.default_backend() == "cpu" else vmap
    return how(function, in_axes, out_axes)


def _stacked(axes, tree) -> list[bool]:
    """For each leaf of a tree, whether lanes lie along its first axis."""

    def shared(axis):
        return axis is None

    whole = jax.tree.broadcast(axes, tree, is_leaf=shared)
    return [not shared(axis) for axis in jax.tree.leaves(whole, is_leaf=shared)]
