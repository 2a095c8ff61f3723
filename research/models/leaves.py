"""Tell what each parameter is, for all rules that treat parameters differently.

Weight decay, max-norm, Muon, adaptive clipping, penalties, layer-wise rates and transfer use this
module. A parameter's role follows from its own name: a parameter called `kernel`, or `my_kernel`,
is a kernel. If names are not enough, a model states the rest by a class attribute:

    class MyModel(nn.Module):
      leaves = {".*/mixing": Leaf("kernel", fan_in=(1,))}

The keys are patterns of paths: regular expressions that must match the whole path.
"""

import contextlib
import contextvars
import dataclasses
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any

import jax
from flax import linen as nn

from research.errors import UserError, unknown_name

HEAD = "head"  # the name of the last layer
ROLES = ("kernel", "bias", "scale", "embedding", "other")
_NOTHING: Mapping[str, "Leaf"] = types.MappingProxyType({})
_stated = contextvars.ContextVar("leaves", default=_NOTHING)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """The properties of one parameter.

    Attributes:
      role: 'kernel' (the weights of a linear map), 'bias', 'scale', 'embedding', or 'other'.
      fan_in: axes that the linear map sums over; only for kernels. In a model's statement, () means
        the axes that follow from the shapes.
      depth: number of layers between the parameter and the head; 0 for the head.
      head: whether it belongs to the head.
    """

    role: str
    fan_in: tuple[int, ...] = ()
    depth: int = 0
    head: bool = False

    def __post_init__(self):
        """Refuse a role that does not exist."""
        if self.role not in ROLES:
            raise unknown_name("Leaf.role", self.role, ROLES)

    def fan_out(self, ndim: int) -> tuple[int, ...]:
        """Return the axes of a kernel of `ndim` axes that are not summed over."""
        return tuple(axis for axis in range(ndim) if axis not in self.fan_in)


def of(params):
    """Return what each parameter is.

    Args:
      params: a tree of arrays, or of anything with a shape.

    Returns:
      A tree like `params` of `Leaf`s.

    Raises:
      UserError: a statement of the model that matches no parameter, or axes that one does not have.
    """
    paths, structure = jax.tree_util.tree_flatten_with_path(params)
    arrays = {path_name(path): leaf for path, leaf in paths}
    depths = _depths(list(arrays))
    stated = _stated_for(arrays)
    return structure.unflatten(
        _leaf(path, arrays, stated.get(path), depth) for path, depth in depths.items()
    )


def is_kernel(params):
    """Return a tree like `params` of bools: True for the weights of linear maps."""
    return jax.tree.map(lambda leaf: leaf.role == "kernel", of(params))


@contextlib.contextmanager
def stated_by(module: nn.Module):
    """Let `of` know, within this context, what a model states about its parameters."""
    token = _stated.set(getattr(module, "leaves", _NOTHING))
    try:
        yield
    finally:
        _stated.reset(token)


def path_name(path) -> str:
    """Return a key path of jax as one string: 'Dense_0/kernel'."""
    return jax.tree_util.keystr(path, simple=True, separator="/")


def in_head(path: str) -> bool:
    """Return whether a path, such as 'head/kernel', lies in the head."""
    return path.partition("/")[0] == HEAD


def compiled(key: str, pattern: Any, names: Sequence[str]) -> re.Pattern:
    """Return a pattern that matches at least one of the names.

    Raises:
      UserError: it matches none, or is no regular expression.
    """
    try:
        compiled_pattern = re.compile(pattern)
    except (re.error, TypeError) as error:
        raise UserError(f"{key}: {pattern!r} is no regular expression ({error})") from None
    if not any(map(compiled_pattern.fullmatch, names)):
        raise unknown_name(key, pattern, names)
    return compiled_pattern


def _leaf(path: str, arrays: Mapping, stated: Leaf | None, depth: int) -> Leaf:
    role = stated.role if stated else _role(path)
    fan_in = stated.fan_in if stated else ()
    if role == "kernel" and not fan_in:
        fan_in = _fan_in(path, arrays)
    return Leaf(role, fan_in, depth, in_head(path))


def _role(path: str) -> str:
    word = path.rpartition("/")[2].rpartition("_")[2]
    return word if word in ROLES else "other"


def _fan_in(path: str, arrays: Mapping) -> tuple[int, ...]:
    """Return all axes of a kernel but those of its outputs, which are the last ones.

    The outputs have one axis, unless the bias beside the kernel has more: Flax's `DenseGeneral`
    maps D inputs to H heads of K features by a kernel (D, H, K) and a bias (H, K). Without a bias,
    its use in Flax's attention is known by the names.
    """
    module, _, name = path.rpartition("/")
    shape, ndim = _shape(arrays[path]), len(_shape(arrays[path]))
    bias = _shape(arrays.get(path.removesuffix("kernel") + "bias"))
    outputs = 1
    if bias and shape[-len(bias) :] == bias:
        outputs = len(bias)
    elif ndim == 3 and module.rpartition("/")[2] in ("query", "key", "value"):
        outputs = 2
    return tuple(range(ndim - outputs))


def _stated_for(arrays: Mapping) -> dict[str, Leaf]:
    statements: dict[str, Leaf] = {}
    for pattern, leaf in _stated.get().items():
        matches = compiled("leaves of the model", pattern, list(arrays)).fullmatch
        for path in filter(matches, arrays):
            axes = range(len(_shape(arrays[path])))
            if not set(leaf.fan_in) <= set(axes):
                raise UserError(
                    f"leaves of the model: fan_in = {leaf.fan_in} of {path} (allowed: some of the "
                    f"axes {tuple(axes)})"
                )
            statements.setdefault(path, leaf)
    return statements


def _depths(paths: list[str]) -> dict[str, int]:
    """Return the number of layers between each parameter and the head.

    The layers of a model are its blocks ('block3', 'stage1_block2'), and outside them the parts of
    the tree's first level. The numbers in their names order them: 'Conv_0' and 'BatchNorm_0' are
    one layer. Blocks come after other parts. The head is last, with parts such as 'head_norm'.
    """

    def place(path):
        parts = path.split("/")
        if parts[0] == HEAD or parts[0].startswith(f"{HEAD}_"):
            return (2,)
        for count, part in enumerate(parts[:-1], 1):
            if re.search(r"block_?\d", part):
                return (1, *_numbers("/".join(parts[:count])))
        return (0, *(_numbers(parts[0]) or (0,)))

    places = {path: place(path) for path in paths}
    order = sorted(set(places.values()))
    return {path: len(order) - 1 - order.index(at) for path, at in places.items()}


def _shape(leaf) -> tuple[int, ...]:
    return tuple(getattr(leaf, "shape", ()))


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))
