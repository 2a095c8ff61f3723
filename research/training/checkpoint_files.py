"""Write and read the two files of a checkpoint, and check their digests.

A checkpoint is a folder `checkpoints/STEP`. Orbax moves it into place in one piece:

- `arrays.safetensors`: the arrays of the train state by the names of their paths
  ('params/Dense_0/kernel'); hyper-parameters are not among them.
- `metadata.json`: the whole config (with the hyper-parameters), the class names and the rest of the
  data's fingerprint, the digest of the other file, and the metrics at that step.

The position in the data is not stored: the step determines it, for a stream from disk too.
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
WEIGHTS = ("params", "batch_stats", "preprocessing")  # what transfer takes over: nested dicts
HALF = ocp.path.step.TMP_DIR_SUFFIX  # the suffix of a folder that is half written
ARRAYS, METADATA = "arrays.safetensors", "metadata.json"


class Damaged(Exception):
    """Say in one line what is wrong with a checkpoint."""


def write(folder: Path, copies: Copies, metadata: dict[str, Any]) -> None:
    """Make the folder of a checkpoint from copies, which are consumed.

    Raises:
      OSError: the folder cannot be written.
      ValueError: the folder exists.
      TypeError: an array has a dtype that .safetensors files do not have.
    """
    # Only this process: by default Orbax waits for the others several times.
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}
    )
    ocp.Checkpointer(_Files(), multiprocessing_options=alone).save(
        folder, args=_Content(copies.fetch(), metadata)
    )


class _Files(ocp.CheckpointHandler):
    """Let Orbax write and read the two files.

    Orbax's own format stores each array as a data set. For a state of 32 arrays that takes six
    times the work (benchmarks/README.md).
    """

    def save(self, directory, args: _Content) -> None:
        # The library copies an array's memory, which must be in C order. Its own function for files
        # does not raise OSError when the disk is full.
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
      UserError: the checkpoint is of another version.
      Damaged: the checkpoint is damaged.
      OSError: the system cannot read it.
    """
    metadata = read_metadata(folder)
    with _damage_told():
        path = folder / ARRAYS
        with _opened(path) as file:
            with safe_open(path, "np"):  # reads only the header, and compares it with the length
                pass
            if hashlib.file_digest(file, "sha256").hexdigest() != metadata["sha256"]:
                raise ValueError("its arrays do not match their digest")
        return metadata, load_file(path)


def read_metadata(folder: Path) -> dict:
    """Return only the metadata of a checkpoint; raise as `read`."""
    if (folder / "metadata").is_dir():  # the place of the metadata in formats 1 and 2
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
            raise  # an error of the machine: too many open files, no permission
        raise Damaged(brief(error)) from None


def brief(error: Exception) -> str:
    """Return the first line of an exception's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def config_of(metadata: dict, folder: Path) -> ConfigDict:
    """Return the config of the run that saved a checkpoint."""
    return configuration.from_json(json.dumps(metadata["config"]), f"{folder}: config")


def objective_of(metadata: dict) -> Objective:
    """Return the objective by which the run chose its best checkpoint."""
    if "objective" in metadata:
        return Objective(*metadata["objective"])
    metric = metadata["config"]["early_stopping"]["metric"]  # of older versions
    return Objective(metric, metric == "accuracy")


def state_of(
    folder: Path,
    metadata: dict,
    arrays: dict[str, np.ndarray],
    template: Callable[[ConfigDict, dict], TrainState],
) -> tuple[TrainState, dict]:
    """Return the state that was read from a folder, and its metadata.

    Args:
      folder: for errors.
      metadata: from `read`.
      arrays: from `read`.
      template: as in `Checkpoints.restore`.

    Raises:
      UserError: the state has other shapes than the template.
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
    """Return the arrays that `Checkpoints.weights` returns; raise as `read`."""
    _, arrays = read(folder)
    kept = {name: array for name, array in arrays.items() if name.startswith(WEIGHTS)}
    tree = unflatten_dict(kept, sep="/")
    return {name: tree.get(name, {}) for name in WEIGHTS}


def _opened(path: Path) -> IO[bytes]:
    if path.exists() and not path.is_file():  # opening a pipe would block
        raise ValueError(f"{path.name} is no file")
    return open(path, "rb")


def _to_disk(file: IO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _shapes(leaves: dict[str, Any]) -> dict[str, tuple]:
    return {name: (np.shape(leaf), leaf.dtype) for name, leaf in leaves.items()}


def _placed(array: np.ndarray, like) -> jax.Array:
    """Put an array on the devices of another one, with the same sharding."""
    sharding = getattr(like, "sharding", None)  # `jax.eval_shape` gives none
    if sharding is None:
        return jax.numpy.asarray(array)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])
