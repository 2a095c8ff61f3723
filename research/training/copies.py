"""Copy what is saved of a state between two dispatches, so that training can go on at once."""

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
    """Hold copies of arrays by the names of their paths; none in a process that does not write.

    Arrays on the device are packed. Each array that is fetched takes calls of the driver, and the
    thread that starts the kernels of the next steps waits for these calls.
    """

    _packing: Packing
    _packed: dict[str, jax.Array] | None
    _others: dict[str, jax.Array | np.ndarray] | None

    def fetch(self) -> dict[str, np.ndarray]:
        """Return the arrays on the host, and free the device's memory. Call this once."""
        packed, others = jax.device_get((self._packed, self._others))
        self._packed = self._others = None
        return self._packing.unpack(packed) | others


def copied(state: TrainState, on_device: bool = True) -> Copies:
    """Return copies of what is saved of a state, so that training may reuse its memory at once.

    All processes must call this.

    Args:
      state: the state to save.
      on_device: keep the copies on the device, without waiting; else wait until they are on the
        host. Arrays that other processes hold parts of are always fetched, and waited for.

    Raises:
      ValueError: two arrays have the same name.
    """
    leaves = saved_leaves(state)
    gathered = on_host({name: leaf for name, leaf in leaves.items() if is_parted(leaf)})
    here = {name: leaf for name, leaf in leaves.items() if name not in gathered and first()}
    # If every device holds the whole array, one copy is enough.
    whole = {
        name: leaf.addressable_data(0)
        for name, leaf in here.items()
        if on_device and isinstance(leaf, jax.Array) and leaf.is_fully_replicated
    }
    rest = {name: leaf for name, leaf in here.items() if name not in whole}
    rest = _copy(rest) if on_device else jax.device_get(rest)
    return Copies(Packing(whole), _pack(whole), gathered | rest)


def has_room(state: TrainState) -> bool:
    """Return whether the device has room for copies of a state beside the peak use so far.

    There must be room for two: one copy may still be on its way to the host when the next is made.
    The largest free block of memory is unknown, so a copy may fail in spite of this.
    """
    if jax.default_backend() == "cpu":  # its memory is the host's
        return True
    used = jax.local_devices()[0].memory_stats() or {}
    if not {"bytes_limit", "peak_bytes_in_use"} <= set(used):
        return False
    needed = 2 * sum(leaf.nbytes for leaf in saved_leaves(state).values())
    return needed < used["bytes_limit"] - used["peak_bytes_in_use"]


def saved_fields(state: TrainState) -> dict:
    """Return the fields that are saved: all but hyper-parameters, which the config has."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    del fields["hyperparameters"]
    return fields


def saved_leaves(state: TrainState) -> dict[str, Any]:
    """Return the arrays in `saved_fields` by the names of their paths ('params/Dense_0/kernel').

    Raises:
      ValueError: two arrays have the same name.
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
