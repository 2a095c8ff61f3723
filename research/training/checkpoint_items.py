"""What one checkpoint holds, written and read, and held against its digests.

It is a folder `checkpoints/STEP` with two items:

- `state`: the arrays of the train state, all but the hyper-parameters;
- `metadata`: JSON with the complete config (which holds the hyper-parameters), the class names, a
  digest of `state` and the metrics at that step.

Where the data stood is not among them: that is the step, for a stream from disk too. What a damaged
file makes Orbax, tensorstore or JSON raise is raised here too.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from research import config as configuration
from research.errors import UserError
from research.training.digest import SEAL, sealed, tree_sha256
from research.training.state import TrainState

FORMAT = 2


def copied(state: TrainState) -> dict:
    """What of a state is saved, while training may go on in its memory.

    NumPy arrays in the only process, which cost Orbax half as much as jax's; those of the state
    where there are several.
    """
    arrays = _arrays(state)
    return jax.tree.map(np.array, arrays) if jax.process_count() == 1 else arrays


def saved_items(
    config: ConfigDict,
    arrays: dict,
    metadata: dict[str, Any],
    metrics: dict[str, float],
    planned: bool,
) -> ocp.args.Composite:
    """What is handed to Orbax: `copied` arrays; the other arguments are of `Checkpoints.save`."""
    told = {
        **metadata,
        "format": FORMAT,
        "config": config.to_dict(),
        "shapes": _shapes(arrays),
        "sha256": tree_sha256(arrays),
        "weights_sha256": tree_sha256(_weights(arrays)),
        "metrics": metrics,
        "planned": planned,
    }
    return ocp.args.Composite(
        state=ocp.args.StandardSave(arrays), metadata=ocp.args.JsonSave(sealed(told))
    )


def read_metadata(manager: ocp.CheckpointManager, step: int) -> dict:
    """The metadata of a step.

    Raises:
      UserError: they are of another version.
      ValueError: they do not match their digest, or have none.
    """
    items = ocp.args.Composite(metadata=ocp.args.JsonRestore())
    metadata = manager.restore(step, args=items)["metadata"]
    has_seal = SEAL in metadata
    if has_seal and metadata[SEAL] != sealed(metadata)[SEAL]:
        raise ValueError("its metadata do not match their digest")
    if metadata["format"] != FORMAT:
        raise UserError(
            f"{_place(manager, step)} has format {metadata['format']} "
            f"(allowed here: {FORMAT}, of this version)"
        )
    if not has_seal:
        raise ValueError("its metadata have no digest")
    return metadata


def config_of(metadata: dict, place: Path) -> ConfigDict:
    """The config that a checkpoint's run had."""
    return configuration.from_json(json.dumps(metadata["config"]), f"{place}: config")


def read_state(
    manager: ocp.CheckpointManager, step: int, template: Callable[[ConfigDict, dict], TrainState]
) -> tuple[TrainState, dict]:
    """The state and the metadata of a step; `template` as in `Checkpoints.restore`.

    Raises:
      UserError: as `read_metadata`; or the state has other shapes.
      ValueError: it does not match its digest.
    """
    metadata = read_metadata(manager, step)
    state = template(config_of(metadata, _place(manager, step)), metadata)
    target = jax.tree.map(ocp.utils.to_shape_dtype_struct, _arrays(state))
    if metadata["shapes"] != _shapes(target):
        raise UserError(
            f"{_place(manager, step)} holds a state of other shapes than the config and its "
            "data ask for: have the data changed?"
        )
    items = ocp.args.Composite(state=ocp.args.StandardRestore(target))
    arrays = manager.restore(step, args=items)["state"]
    if tree_sha256(arrays) != metadata["sha256"]:
        raise ValueError("its arrays do not match their digest")
    return state.replace(**arrays), metadata


def read_weights(manager: ocp.CheckpointManager, step: int) -> dict:
    """What `Checkpoints.weights` returns.

    Raises:
      UserError: as `read_metadata`.
      ValueError: they do not match their digest.
    """
    digest = read_metadata(manager, step)["weights_sha256"]
    items = ocp.args.Composite(state=ocp.args.StandardRestore())
    arrays = _weights(manager.restore(step, args=items)["state"])
    if tree_sha256(arrays) != digest:
        raise ValueError("its weights do not match their digest")
    return jax.tree.map(np.asarray, arrays)


def _place(manager: ocp.CheckpointManager, step: int) -> Path:
    return Path(manager.directory) / str(step)


def _arrays(state: TrainState) -> dict:
    """The fields that are saved: hyper-parameters come from the config."""
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    del fields["hyperparameters"]
    return fields


def _weights(arrays: dict) -> dict:
    """What transfer takes over: dicts all through, so that it can be read without a template."""
    # Orbax leaves out a collection that is empty.
    return {name: arrays.get(name) or {} for name in ("params", "batch_stats", "preprocessing")}


def _shapes(tree) -> list[list[int]]:
    return [list(np.shape(leaf)) for leaf in jax.tree.leaves(tree)]
