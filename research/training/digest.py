"""Compute digests of arrays and of JSON, to detect damage and to compare weights."""

import hashlib
import json

import jax
import numpy as np

from research.processes import on_host

SEAL = "metadata_sha256"


def tree_sha256(tree) -> str:
    """Return the SHA-256 over the path, dtype, shape and bytes of all leaves, in order of paths.

    Equal digests mean equal bits.
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
    """Return the digest of a network's params and batch_stats."""
    return tree_sha256({"params": state.params, "batch_stats": state.batch_stats})


def sealed(metadata: dict) -> dict:
    """Return JSON values together with their digest, under the name `SEAL`."""
    rest = {name: value for name, value in metadata.items() if name != SEAL}
    text = json.dumps(rest, sort_keys=True)
    return {**json.loads(text), SEAL: hashlib.sha256(text.encode()).hexdigest()}
