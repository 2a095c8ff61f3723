"""Find values by the paths of parameters, such as 'stage1_block1/Conv_0/kernel'.

A pattern is a regular expression that must match the whole path.
"""

from collections.abc import Sequence
from typing import Any

import jax

from research.errors import UserError
from research.models.leaves import compiled, path_name


def leaves_by_path(tree) -> dict[str, Any]:
    """Return all leaves by the names of their paths, in the tree's order."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def by_pattern(key: str, pairs: Sequence[tuple[str, Any]], params, default: Any = None):
    """Return for each parameter the value of the first pattern that matches it.

    Args:
      key: key of the config, for errors.
      pairs: (pattern, value).
      params: a tree.
      default: the value if no pattern matches; None: one must match.

    Returns:
      A tree like `params` of values.

    Raises:
      UserError: a pattern that is no regular expression, or matches nothing; parameters that no
        pattern matches.
    """
    names = list(leaves_by_path(params))
    patterns = [compiled(key, pattern, names) for pattern, _ in pairs]
    values, uncovered = [], []
    for name in names:
        matching = [
            value for (_, value), p in zip(pairs, patterns, strict=True) if p.fullmatch(name)
        ]
        if not matching and default is None:
            uncovered.append(name)
        values.append((matching or [default])[0])
    if uncovered:
        raise UserError(f"{key}: no pattern matches {', '.join(uncovered)} (('.*', 1.0) would)")
    return jax.tree.unflatten(jax.tree.structure(params), values)
