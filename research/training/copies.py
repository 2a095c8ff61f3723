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
    """Arrays as they were, by the names of their paths; in a process that does not write, none.

    On the device they are packed: each array that leaves it takes calls of its driver, for which
    the thread waits that starts the kernels of the next steps.
    """

    _packing: Packing
    _packed: dict[str, jax.Array] | None
    _others: dict[str, jax.Array | np.ndarray] | None

    def fetch(self) -> dict[str, np.ndarray]:
        """On the host; the device has its memory back. Once only."""
        packed, others = jax.device_get((self._packed, self._others))
        self._packed = self._others = None
        return self._packing.unpack(packed) | others


def copied(state: TrainState, on_device: bool = True) -> Copies:
    """What of a state is saved, so that training may go on in its memory at once.

    All processes call this.

    Args:
      state: what is saved.
      on_device: copies lie there, and nothing is waited for; else this returns when they are on the
        host. Arrays of which other processes hold parts are on the host, and waited for, always.

    Raises:
      ValueError: two arrays have one name.
    """
    leaves = saved_leaves(state)
    gathered = on_host({name: leaf for name, leaf in leaves.items() if is_parted(leaf)})
    here = {name: leaf for name, leaf in leaves.items() if name not in gathered and first()}
    # Of arrays that every device holds alike, the copy of one is enough.
    whole = {
        name: leaf.addressable_data(0)
        for name, leaf in here.items()
        if on_device and isinstance(leaf, jax.Array) and leaf.is_fully_replicated
    }
    rest = {name: leaf for name, leaf in here.items() if name not in whole}
    rest = _copy(rest) if on_device else jax.device_get(rest)
    return Copies(Packing(whole), _pack(whole), gathered | rest)


def has_room(state: TrainState) -> bool:
    """Whether the device has room for copies of a state beside all that was there so far at once.

    For two: one may still be on its way to the host when the next is made. Whether there is a piece
    of memory as large as each of them is not known.
    """
    if jax.default_backend() == "cpu":  # its memory is the host's, where they would be anyway
        return True
    used = jax.local_devices()[0].memory_stats() or {}
    if not {"bytes_limit", "peak_bytes_in_use"} <= set(used):
        return False
    needed = 2 * sum(leaf.nbytes for leaf in saved_leaves(state).values())
    return needed < used["bytes_limit"] - used["peak_bytes_in_use"]


def saved_fields(state: TrainState) -> dict:
    """The fields that are saved: hyper-parameters come from the config."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    del fields["hyperparameters"]
    return fields


def saved_leaves(state: TrainState) -> dict[str, Any]:
    """The arrays in `saved_fields`, by the names of their paths ('params/Dense_0/kernel').

    Raises:
      ValueError: two have one name.
    """
    fields = saved_fields(state)
    leaves = leaves_by_path(fields)
    if len(leaves) < len(jax.tree.leaves(fields)):
        raise ValueError("two arrays of the state have one path: is there a '/' in a name?")
    return leaves


@jax.jit
def _pack(tree) -> dict[str, jax.Array]:
    return Packing(tree).pack(tree)


@jax.jit
def _copy(tree):
    return jax.tree.map(jnp.copy, tree)
