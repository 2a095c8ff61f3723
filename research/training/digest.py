"""Digests of arrays and of JSON, to know what was saved from what was read."""

import hashlib
import json

import jax
import numpy as np

from research.processes import on_host

SEAL = "metadata_sha256"


def tree_sha256(tree) -> str:
    """SHA-256 over all leaves in sorted path order: path, dtype, shape and bytes of each.

    It names final weights: equal digests are equal bits.
    """
    leaves = jax.tree_util.tree_flatten_with_path(on_host(tree))[0]
    named = {jax.tree_util.keystr(path): leaf for path, leaf in leaves}
    digest = hashlib.sha256()
    for name in sorted(named):
        array = np.asarray(named[name])
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return digest.hexdigest()


def parameters_sha256(state) -> str:
    """The digest of what a trained network is: its params and its batch_stats."""
    return tree_sha256({"params": state.params, "batch_stats": state.batch_stats})


def sealed(metadata: dict) -> dict:
    """JSON values with a digest of them all, under the name `SEAL`."""
    rest = {name: value for name, value in metadata.items() if name != SEAL}
    text = json.dumps(rest, sort_keys=True)
    return {**json.loads(text), SEAL: hashlib.sha256(text.encode()).hexdigest()}
