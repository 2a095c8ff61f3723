"""Which parameters something concerns, told by their paths, such as 'stage1_block1/Conv_0/kernel'.

A pattern is a regular expression that must match the whole path.
"""

import re
from collections.abc import Sequence
from typing import Any

import jax

from research.errors import UserError, unknown_name


def path_name(path) -> str:
    """A key path of jax as one string: 'Dense_0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def leaves_by_path(tree) -> dict[str, Any]:
    """All leaves by the names of their paths, in the tree's order."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def is_kernel(params):
    """Marks the weights of affine maps; biases and the scales of normalisers are left alone.

    Returns:
      A tree like `params` of bools: True where the parameter's own name is 'kernel'.
    """
    return jax.tree_util.tree_map_with_path(
        lambda path, _: path_name(path[-1:]) == "kernel", params
    )


def by_pattern(key: str, pairs: Sequence[tuple[str, Any]], params, default: Any = None):
    """The value of the first pattern that matches each parameter.

    Args:
      key: of the config, for errors.
      pairs: (pattern, value).
      params: a tree.
      default: the value where no pattern matches; None: there must be one.

    Returns:
      A tree like `params` of values.

    Raises:
      UserError: a pattern that is none, or matches nothing; parameters that none matches.
    """
    names = list(leaves_by_path(params))
    patterns = [compiled(key, pattern, names) for pattern, _ in pairs]
    values, uncovered = [], []
    for name in names:
        found = [value for (_, value), p in zip(pairs, patterns, strict=True) if p.fullmatch(name)]
        if not found and default is None:
            uncovered.append(name)
        values.append((found or [default])[0])
    if uncovered:
        raise UserError(f"{key}: no pattern matches {', '.join(uncovered)} (('.*', 1.0) would)")
    return jax.tree.unflatten(jax.tree.structure(params), values)


def compiled(key: str, pattern: Any, names: Sequence[str]) -> re.Pattern:
    """A pattern that matches at least one of the names.

    Raises:
      UserError: it does not, or is no regular expression.
    """
    try:
        found = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f"{key}: {pattern!r} is no regular expression ({error})") from None
    if not any(map(found.fullmatch, names)):
        raise unknown_name(key, pattern, names)
    return found


def layer_depths(params):
    """How many layers lie between each parameter and the head: 0 for the head.

    Layers are the parts of the tree's first level, in the order of the numbers in their names:
    'Conv_0' and 'BatchNorm_0' are one, 'stage1_block2' comes after 'stage1_block1', 'head' last.
    """

    def place(path):
        name = path_name(path[:1])
        return (name == "head", "block" in name, *map(int, re.findall(r"\d+", name)))

    places = jax.tree_util.tree_map_with_path(lambda path, _: place(path), params)
    order = sorted(set(jax.tree.leaves(places, is_leaf=_is_place)))
    return jax.tree.map(lambda at: len(order) - 1 - order.index(at), places, is_leaf=_is_place)


def _is_place(node) -> bool:
    return isinstance(node, tuple)
