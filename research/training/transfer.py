"""Start a run from the weights of an earlier run, or of PyTorch's ResNets.

A parameter is named by its path, such as 'stage1_block1/Conv_0/kernel'. Running statistics of batch
norm, such as '.../BatchNorm_0/mean', count as parameters here.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from research import models, optimizers
from research.data import identity, offsets
from research.errors import UserError
from research.models.leaves import compiled, in_head, stated_by
from research.optimizers.masks import leaves_by_path
from research.optimizers.multipliers import frozen_statistics, never_trained
from research.training.checkpoints import Checkpoints
from research.training.recalibration import recalibrate
from research.training.setup import Setup
from research.training.state import TrainState

# The statistics of preprocessing that always describe a run's own data: how its inputs are stored,
# and its targets.
_OWN = ("offset", "low", "high", "targets")


def start_from(run: Setup, state: TrainState) -> tuple[TrainState, dict[str, list[str]]]:
    """Return the state with the weights of the checkpoint that `config.transfer` names.

    Returns:
      The state, and a report of parameters by path: 'loaded', 'fresh' (skipped by the config),
      'unused' (in the checkpoint only), 'frozen', and 'fitted elsewhere': the preprocessing, if it
      is kept and was fitted to other data.

    Raises:
      UserError: no such checkpoint; patterns that match nothing; parameters that the checkpoint
        does not have, or has in other shapes, all in one line; a head of other classes.
    """
    config, settings = run.config, run.config.transfer
    theirs, preprocessing, data = _read(settings)
    theirs = {_renamed(settings, path, list(theirs)): array for path, array in theirs.items()}
    trees = {"params": state.params, "batch_stats": state.batch_stats}
    ours = _by_path(**trees)
    skip = [compiled("config.transfer.skip", pattern, list(ours)) for pattern in settings.skip]
    fresh = [path for path in ours if any(pattern.fullmatch(path) for pattern in skip)]
    wanted = [path for path in ours if path not in fresh]
    _check(settings, ours, theirs, wanted)
    _check_head(settings, run, data, wanted)
    taken = {path: jnp.asarray(theirs[path], ours[path].dtype) for path in wanted}
    leaves = [taken.get(path, leaf) for path, leaf in ours.items()]
    trees = jax.tree.unflatten(jax.tree.structure(trees), leaves)
    numbers = state.hyperparameters
    fixed = leaves_by_path(never_trained(config, numbers, state.params))
    still = frozen_statistics(config, numbers, state.params, state.batch_stats, 0)
    for path in leaves_by_path(state.batch_stats):
        of_layer = still.get(path.rpartition("/")[0]) is True
        fixed[path] = config.model.freeze_batch_stats or of_layer
    report = {
        "loaded": wanted,
        "fresh": fresh,
        "unused": [path for path in theirs if path not in wanted],
        "frozen": [path for path, stays in fixed.items() if stays],
    }
    if settings.preprocessing and preprocessing is not None:
        preprocessing = _taken_over(preprocessing, state.preprocessing, run.train.shape)
        state = state.replace(preprocessing=preprocessing)
        known = {"train": data["train"]} if "train" in data else {}
        if differences := identity.differences(known, run.fingerprint()):
            report["fitted elsewhere"] = [f"preprocessing ({differences[0]})"]
    with stated_by(models.build(config, numbers, run.task.outputs)):
        opt_state = optimizers.build(config, numbers, step=0).init(trees["params"])
    state = state.replace(**trees, opt_state=opt_state)
    if settings.recalibrate:
        state = recalibrate(config, run.task, state, run.train)
    return state, report


def told(report: dict[str, list[str]]) -> str:
    """Return the report as lines for the screen: `loaded 4: Dense_0/kernel, ...`."""
    return "\n".join(
        f"  {what} {len(paths)}: {', '.join(paths) or '-'}" for what, paths in report.items()
    )


def _read(settings) -> tuple[dict[str, np.ndarray], dict | None, dict]:
    """Read a checkpoint to start from.

    Returns:
      All arrays by path, the preprocessing (None if unknown), and the fingerprint of the data they
      were trained with ({} if unknown).
    """
    path = Path(settings.checkpoint).expanduser()
    if path.suffix == ".safetensors":
        from research.training import torch_names

        return torch_names.read(path), None, {}
    if not (path / "checkpoints").is_dir():
        raise UserError(
            f"config.transfer.checkpoint = {str(path)!r} is neither a run folder with checkpoints "
            "nor a .safetensors file"
        )
    with Checkpoints(path, read_only=True) as checkpoints:
        step = checkpoints.find(settings.step)
        weights = checkpoints.weights(step)
        data = identity.of_metadata(checkpoints.metadata(step))
    return _by_path(weights["params"], weights["batch_stats"]), weights["preprocessing"], data


def _by_path(params, batch_stats) -> dict[str, np.ndarray]:
    """Return all arrays by path, in the order of a tree of both."""
    return leaves_by_path(batch_stats) | leaves_by_path(params)


def _renamed(settings, path: str, paths: list[str]) -> str:
    for pattern, replacement in settings.rename:
        match = compiled("config.transfer.rename", pattern, paths).fullmatch(path)
        if match:
            try:
                return match.expand(replacement)
            except (re.error, IndexError) as error:
                raise UserError(f"config.transfer.rename: {replacement!r}: {error}") from None
    return path


def _check(settings, ours, theirs, wanted) -> None:
    missing = [path for path in wanted if path not in theirs]
    if missing:
        unused = [path for path in theirs if path not in ours]
        raise UserError(
            f"{settings.checkpoint} has no {', '.join(missing)} (skip them by config.transfer.skip "
            f"or rename some of {', '.join(unused) or 'none, all are used'})"
        )
    unequal = [
        f"{path} {tuple(theirs[path].shape)} there, {tuple(ours[path].shape)} here"
        for path in wanted
        if theirs[path].shape != ours[path].shape
    ]
    if unequal:
        raise UserError(f"{settings.checkpoint}: other shapes: {'; '.join(unequal)}")


def _check_head(settings, run: Setup, data: dict, wanted) -> None:
    """Refuse to keep a head that was trained for other classes, or for another order of them."""
    names = tuple(data.get("class_names", run.class_names))
    kept = list(filter(in_head, wanted))
    if kept and names != run.class_names:
        raise UserError(
            f"config.transfer.skip = {settings.skip!r} keeps {', '.join(kept)} of "
            f"{settings.checkpoint}, for other classes: "
            f"{identity.class_difference(names, run.class_names)} (allowed: the same in the same "
            "order, or 'head/.*' among config.transfer.skip)"
        )


def _taken_over(theirs: dict, ours: dict, shape: tuple[int, ...]) -> dict:
    """Return the checkpoint's preprocessing for our inputs, which keep their own offset and range.

    (x - their offset) - their shift = (x - our offset) - (their shift + their offset - our offset).
    """
    kept = {name: ours[name] for name in _OWN if name in ours}
    scheme = {name: array for name, array in theirs.items() if name not in _OWN}
    both = [offsets.of(tree, shape) for tree in (theirs, ours)]
    apart = np.subtract(*(0.0 if offset is None else offset for offset in both))
    if apart.any():
        scheme["shift"] = (scheme["shift"] + apart).astype(np.float32)

    def shapes(tree):
        kept = {name: np.shape(tree[name]) for name in tree if name not in _OWN}
        # With an offset, a shift that was one number differs between features.
        return {**kept, "shift": np.shape(tree["shift"] + 0 * apart)}

    if shapes(scheme) != shapes(ours):
        raise UserError(
            "config.transfer.preprocessing = True: the checkpoint's preprocessing has other shapes "
            "than config.preprocessing gives (allowed: the same, or False to fit it anew)"
        )
    return jax.tree.map(jnp.asarray, {**scheme, **kept})
