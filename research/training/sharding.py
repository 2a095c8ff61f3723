"""Shard a run's arrays over a mesh of all devices of all processes.

The mesh has two axes. Along `data` the batch is cut and the state is copied. Along `model` wide
parameters are cut by their output features.
"""

import dataclasses
import math

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from ml_collections import ConfigDict

from research.batch_axis import DATA
from research.errors import UserError
from research.models.leaves import compiled, path_name
from research.optimizers.masks import leaves_by_path

MODEL = "model"


@dataclasses.dataclass(frozen=True)
class Sharding:
    """A mesh of devices, and the shardings of a run's arrays on it."""

    mesh: Mesh
    patterns: tuple[str, ...]  # match the parameters that are cut along `model`

    @classmethod
    def from_config(cls, config: ConfigDict) -> "Sharding":
        """Return the mesh of all devices.

        Raises:
          UserError: `parallel.model_devices` does not divide the devices, or needs another mode.
        """
        devices, model = jax.devices(), config.parallel.model_devices
        if len(devices) % model:
            allowed = [n for n in range(1, len(devices) + 1) if len(devices) % n == 0]
            raise UserError(
                f"config.parallel.model_devices = {model} does not divide the {len(devices)} "
                f"devices (allowed: {', '.join(map(str, allowed))})"
            )
        if model > 1 and config.parallel.mode != "jit":
            raise UserError(
                f"config.parallel.model_devices = {model} needs config.parallel.mode = 'jit', not "
                f"{config.parallel.mode!r} (allowed there: 1)"
            )
        # Not jax.make_mesh: it may reorder devices, so that a process's rows are not neighbours.
        mesh = Mesh(np.array(devices).reshape(-1, model), (DATA, MODEL))
        return cls(mesh, tuple(config.parallel.shard_parameters))

    @property
    def parts(self) -> int:
        """Return the number of parts that a batch is cut into."""
        return self.mesh.shape[DATA]

    @property
    def copied(self) -> NamedSharding:
        """Return the sharding of arrays that are whole on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def rows(self, axis: int = 0) -> NamedSharding:
        """Return the sharding of arrays whose examples lie along an axis."""
        return NamedSharding(self.mesh, PartitionSpec(*[None] * axis, DATA))

    def of_state(self, state):
        """Return the sharding of each leaf of a train state, arrays or shapes.

        Parameters whose path matches one of the patterns are cut by their last axis, if the devices
        along `model` divide it. The optimiser's state for these parameters is cut alike.

        Raises:
          UserError: a pattern that matches nothing.
        """
        devices = self.mesh.shape[MODEL]
        if devices == 1:
            return jax.tree.map(lambda _: self.copied, state)
        names = list(leaves_by_path(state.params))
        patterns = [compiled("config.parallel.shard_parameters", p, names) for p in self.patterns]
        wide = tuple(name for name in names if any(p.fullmatch(name) for p in patterns))

        def sharding(path, leaf):
            if path_name(path).endswith(wide) and leaf.ndim > 1 and not leaf.shape[-1] % devices:
                return NamedSharding(self.mesh, PartitionSpec(*[None] * (leaf.ndim - 1), MODEL))
            return self.copied

        return jax.tree_util.tree_map_with_path(sharding, state)

    def share(self, rows):
        """Tell the compiler, under `jit`, that the devices share the rows of an array."""
        return rows if self.parts == 1 else jax.lax.with_sharding_constraint(rows, self.rows())

    def put(self, tree, sharding: NamedSharding | None = None):
        """Put arrays that every process has on the devices; by default whole on each."""

        def place(array):
            array = np.asarray(array)
            return jax.make_array_from_callback(
                array.shape, sharding or self.copied, lambda index: array[index]
            )

        return jax.tree.map(place, tree)

    def place(self, state):
        """Put a train state on the devices; leaves that lie there already stay as they are."""

        def move(leaf, sharding):
            there = isinstance(leaf, jax.Array) and leaf.sharding.is_equivalent_to(
                sharding, leaf.ndim
            )
            return leaf if there else self.put(leaf, sharding)

        return jax.tree.map(move, state, self.of_state(state))

    def local_rows(self, batch_size: int) -> np.ndarray:
        """Return the rows of a batch that this process holds, ascending."""
        parts = self.rows().addressable_devices_indices_map((batch_size,)).values()
        return np.unique(np.concatenate([np.arange(batch_size)[rows] for (rows,) in parts]))

    def put_rows(self, batch: dict, batch_size: int) -> dict:
        """Put a batch on the devices, of which this process has only its `local_rows`."""
        held = self.local_rows(batch_size)

        def place(array):
            def rows(index):
                start = np.searchsorted(held, index[0].start or 0)
                return array[start : start + batch_size // self.parts]

            shape = (batch_size, *array.shape[1:])
            return jax.make_array_from_callback(shape, self.rows(), rows)

        return jax.tree.map(place, batch)

    def check_batch(self, config: ConfigDict, examples: int) -> None:
        """Refuse batches, or microbatches, that cannot be cut into equal parts.

        Args:
          config: config of the run.
          examples: number of training examples; no larger batch is proposed.

        Raises:
          UserError: the line names the nearest sizes that can be cut.
        """
        size, microbatches = config.batch_size, config.compute.microbatches
        unit = self.parts * microbatches
        below = size // unit * unit
        if below != size:
            nearest = [str(size) for size in (below, below + unit) if 0 < size <= examples]
            allowed = f"multiples of {unit}" + f", such as {' and '.join(nearest)}" * bool(nearest)
            if config.parallel.mode == "jit":
                devices = self.mesh.size
                fits = (n for n in range(1, devices + 1) if devices % n == 0)
                fits = [n for n in fits if size % (devices // n * microbatches) == 0]
                allowed += f"; or parallel.model_devices = {fits[0]}" if fits else ""
            raise UserError(
                f"config.batch_size = {size} cannot be shared by {self.parts} devices in "
                f"{microbatches} microbatches (allowed: {allowed})"
            )
        ghost, part = config.model.ghost_batch_size, size // microbatches
        if config.parallel.mode != "jit":  # a device normalises what it holds
            part //= self.parts
        if ghost and part % ghost:
            shared = math.gcd(ghost, part)  # of 1 there is no variance
            raise UserError(
                f"config.model.ghost_batch_size = {ghost} does not divide the {part} examples that "
                f"are normalised together: {size} in {microbatches} microbatches"
                + f", on {self.parts} devices" * (config.parallel.mode != "jit")
                + f" (allowed: divisors of at least 2, such as {shared if shared > 1 else part})"
            )

    def static(self, config: ConfigDict) -> ConfigDict:
        """Return the config of the step: `local_batch_norm` becomes a ghost batch size."""
        if not config.parallel.local_batch_norm:
            return config
        if config.model.ghost_batch_size:
            raise UserError(
                "config.parallel.local_batch_norm and config.model.ghost_batch_size = "
                f"{config.model.ghost_batch_size} are two sizes of one thing (allowed: one of them)"
            )
        config = config.copy_and_resolve_references()
        parts = self.parts * config.compute.microbatches
        config.model.ghost_batch_size = config.batch_size // parts
        return config
