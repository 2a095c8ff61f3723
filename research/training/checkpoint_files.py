"""What one checkpoint holds, written and read, and held against its digests.

It is a folder `checkpoints/STEP`, which Orbax puts in its place in one piece, with two files:

- `arrays.safetensors`: the arrays of the train state, all but the hyper-parameters, by the names of
  their paths ('params/Dense_0/kernel');
- `metadata.json`: the complete config (which holds the hyper-parameters), the class names and
  the rest of the data's fingerprint, the digest of the other file and the metrics at that step.

Where the data stood is not among them: that is the step, for a stream from disk too.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file
from safetensors.numpy import save as to_safetensors

from research import config as configuration
from research.errors import UserError
from research.training import metrics
from research.training.copies import Copies, saved_fields, saved_leaves
from research.training.digest import SEAL, sealed
from research.training.early_stopping import Objective
from research.training.state import TrainState

FORMAT = 3
WEIGHTS = ("params", "batch_stats", "preprocessing")  # what transfer takes over: dicts all through
HALF = ocp.path.step.TMP_DIR_SUFFIX  # of a folder that is half written
ARRAYS, METADATA = "arrays.safetensors", "metadata.json"


class Damaged(Exception):
    """What is wrong with a checkpoint, in one line."""


def write(folder: Path, copies: Copies, metadata: dict[str, Any]) -> None:
    """Makes the folder of a checkpoint, from copies, which it takes over.

    Raises:
      OSError: it cannot be written.
      ValueError: it is there.
      TypeError: an array has a dtype that no .safetensors file holds.
    """
    # This process alone: without, Orbax would wait for the others in every step of it.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    ocp.Checkpointer(_Files(), multiprocessing_options=alone).save(
        folder, args=_Content(copies.fetch(), metadata)
    )


class _Files(ocp.CheckpointHandler):
    """The two files, for Orbax.

    Not its own format of arrays: of a state of 32 arrays that takes six times the work
    (benchmarks/README.md), for each is a data set of its own there.
    """

    def save(self, directory, args: _Content) -> None:
        # The library copies the memory of an array as it lies, so it must lie in C's order. It
        # could write the file itself, but would not raise OSError when the disk is full.
        arrays = {name: np.asarray(array, order="C") for name, array in args.arrays.items()}
        try:
            content = to_safetensors(arrays)
        except SafetensorError as error:
            raise TypeError(str(error)) from None
        with open(directory / ARRAYS, "wb") as file:
            file.write(content)
            _to_disk(file)
        digest = hashlib.sha256(content).hexdigest()
        metadata = {**args.metadata, "format": FORMAT, "sha256": digest}
        with open(directory / METADATA, "w") as file:
            json.dump(sealed(metadata), file)
            _to_disk(file)

    def restore(self, directory, args=None) -> tuple[dict, dict[str, np.ndarray]]:
        return read(Path(directory))


@ocp.args.register_with_handler(_Files, for_save=True, for_restore=True)
@dataclasses.dataclass
class _Content(ocp.args.CheckpointArgs):
    arrays: dict[str, np.ndarray] = dataclasses.field(default_factory=dict)
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)


def read(folder: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """Return the metadata and the arrays of a checkpoint.

    Raises:
      UserError: it is of another version.
      Damaged: it is not whole.
      OSError: it cannot be read, for a reason that is not its own.
    """
    metadata = read_metadata(folder)
    with _damage_told():
        path = folder / ARRAYS
        with _opened(path) as file:
            with safe_open(path, "np"):  # compares the header with the file's length, reads no more
                pass
            if hashlib.file_digest(file, "sha256").hexdigest() != metadata["sha256"]:
                raise ValueError("its arrays do not match their digest")
        return metadata, load_file(path)


def read_metadata(folder: Path) -> dict:
    """The metadata of a checkpoint alone; raises as `read`."""
    if (folder / "metadata").is_dir():  # where the formats 1 and 2 had theirs
        raise _other_version(folder, "an older format")
    with _damage_told():
        with _opened(folder / METADATA) as file:
            metadata = json.load(file)
        has_seal = SEAL in metadata
        if has_seal and metadata[SEAL] != sealed(metadata)[SEAL]:
            raise ValueError("its metadata do not match their digest")
        if metadata["format"] != FORMAT:
            raise _other_version(folder, f"format {metadata['format']}")
        if not has_seal:
            raise ValueError("its metadata have no digest")
        numbers = [metadata.get("wall_seconds", 0), metadata.get("rollbacks", 0)]
        if window := metadata.get("window"):
            metadata["window"] = window = metrics.as_saved_now(window)
            numbers += [window["seconds"], *jax.tree.leaves(window["metrics"])]
        if not all(isinstance(n, (int, float)) for n in (*numbers, *metadata["metrics"].values())):
            raise ValueError("its metadata have words where numbers should be")
        return metadata


def _other_version(folder: Path, what: str) -> UserError:
    return UserError(
        f"{folder} has {what} (allowed here: {FORMAT}, of this version; go on with the version of "
        "its own, or in another --workdir)"
    )


@contextlib.contextmanager
def _damage_told() -> Iterator[None]:
    try:
        yield
    except (UserError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOENT, errno.EIO):
            raise  # of the machine: too many open files, no permission
        raise Damaged(brief(error)) from None


def brief(error: Exception) -> str:
    """The first line of what an exception says."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def config_of(metadata: dict, folder: Path) -> ConfigDict:
    """The config that a checkpoint's run had."""
    return configuration.from_json(json.dumps(metadata["config"]), f"{folder}: config")


def objective_of(metadata: dict) -> Objective:
    """Return what decided which checkpoint was the best when this one was saved."""
    if "objective" in metadata:
        return Objective(*metadata["objective"])
    metric = metadata["config"]["early_stopping"]["metric"]  # from before there were other tasks
    return Objective(metric, metric == "accuracy")


def state_of(
    folder: Path,
    metadata: dict,
    arrays: dict[str, np.ndarray],
    template: Callable[[ConfigDict, dict], TrainState],
) -> tuple[TrainState, dict]:
    """The state that was read from a folder, and its metadata.

    Args:
      folder: for errors.
      metadata: of `read`.
      arrays: of `read`.
      template: as in `Checkpoints.restore`.

    Raises:
      UserError: it has other shapes.
    """
    state = template(config_of(metadata, folder), metadata)
    wanted = saved_leaves(state)
    if others := sorted(name for name, _ in _shapes(wanted).items() ^ _shapes(arrays).items()):
        raise UserError(
            f"{folder} holds a state of other shapes than the config and its data ask for "
            f"({others[0]}): have the data changed, or is it of an earlier version?"
        )
    leaves = [_placed(arrays[name], leaf) for name, leaf in wanted.items()]
    structure = jax.tree.structure(saved_fields(state))
    return state.replace(**jax.tree.unflatten(structure, leaves)), metadata


def read_weights(folder: Path) -> dict:
    """What `Checkpoints.weights` returns; raises as `read`."""
    _, arrays = read(folder)
    kept = {name: array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    tree = unflatten_dict(kept, sep="/")
    return {name: tree.get(name, {}) for name in WEIGHTS}


def _opened(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise ValueError(f"{path.name} is no file")
    return open(path, "rb")


def _to_disk(file: IO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _shapes(leaves: dict[str, Any]) -> dict[str, tuple]:
    return {name: (np.shape(leaf), leaf.dtype) for name, leaf in leaves.items()}


def _placed(array: np.ndarray, like) -> jax.Array:
    """On the devices where another lies, each of which holds a part of it or all."""
    sharding = getattr(like, "sharding", None)  # a shape may have none
    if sharding is None:
        return jax.numpy.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
