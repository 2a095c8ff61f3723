"""What is saved of a state, copied between two dispatches, so that training goes on at once."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from research.optimizers.masks import leaves_by_path
from research.processes import first, is_parted, on_host
from research.training.packing import Packing
from research.training.state import TrainState


@dataclasses.dataclass
class Copies:
    """The arrays that `saved_fields` has, as they were.

    On the device they are packed: each array that leaves it takes calls of its driver, for which
    the thread waits that starts the kernels of the next steps.
    """

    step: jax.Array | np.ndarray  # int32 ()
    _structure: Any = None  # of all leaves
    _packing: Packing | None = None  # of those that are packed, by their numbers
    _packed: dict[str, jax.Array] | None = None
    _others: dict[int, jax.Array | np.ndarray] | None = None

    def fetch(self) -> dict[str, np.ndarray]:
        """By the names of their paths, on the host; the device has its memory back. Once only."""
        packed, others = jax.device_get((self._packed, self._others))
        self._packed = self._others = None
        leaves = self._packing.unpack(packed) | others
        return named(jax.tree.unflatten(self._structure, [leaves[n] for n in range(len(leaves))]))


def copied(state: TrainState, on_device: bool = True) -> Copies:
    """What of a state is saved, so that training may go on in its memory at once.

    All processes call this; those that do not write get the step alone.

    Args:
      state: what is saved.
      on_device: copies lie there, and nothing is waited for; else this returns when they are on the
        host. Arrays of which other processes hold parts are on the host, and waited for, always.
    """
    leaves, structure = jax.tree.flatten(saved_fields(state))
    gathered = on_host({n: leaf for n, leaf in enumerate(leaves) if is_parted(leaf)})
    step = _copy(_one_of(state.step))
    if not first():
        return Copies(step)
    here = {n: leaf for n, leaf in enumerate(leaves) if n not in gathered}
    whole = {n: _one_of(leaf) for n, leaf in here.items() if on_device and _is_whole(leaf)}
    rest = {n: leaf for n, leaf in here.items() if n not in whole}
    rest = _copy(rest) if on_device else jax.device_get(rest)
    return Copies(step, structure, Packing(whole), _pack(whole), gathered | rest)


def has_room(state: TrainState) -> bool:
    """Whether the device has room for copies of a state beside all that was there so far at once.

    For two: one may still be on its way to the host when the next is made.
    """
    if jax.default_backend() == "cpu":  # its memory is the host's, where they would be anyway
        return True
    used = jax.local_devices()[0].memory_stats() or {}
    if not {"bytes_limit", "peak_bytes_in_use"} <= set(used):
        return False
    needed = 2 * sum(leaf.nbytes for leaf in jax.tree.leaves(saved_fields(state)))
    return needed < used["bytes_limit"] - used["peak_bytes_in_use"]


def saved_fields(state: TrainState) -> dict:
    """The fields that are saved: hyper-parameters come from the config."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    del fields["hyperparameters"]
    return fields


def named(fields: dict) -> dict[str, Any]:
    """The leaves of `saved_fields`, by the names of their paths ('params/Dense_0/kernel').

    Raises:
      ValueError: two have one name.
    """
    leaves = leaves_by_path(fields)
    if len(leaves) < len(jax.tree.leaves(fields)):
        raise ValueError("two arrays of the state have one path: is there a '/' in a name?")
    return leaves


def _is_whole(leaf) -> bool:
    return isinstance(leaf, jax.Array) and leaf.is_fully_replicated


def _one_of(leaf):
    """Of an array that every device holds alike, one; the copy of that is enough."""
    return leaf.addressable_data(0) if _is_whole(leaf) else leaf


@jax.jit
def _pack(tree) -> dict[str, jax.Array]:
    return Packing(tree).pack(tree)


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)  # a program would return what it was given as it is
