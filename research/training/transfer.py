"""Transfer: weights of an earlier run, or of PyTorch's ResNets, as the start of a new one.

A parameter is named by its path, such as 'stage1_block1/Conv_0/kernel'; running statistics of batch
norm, such as '.../BatchNorm_0/mean', count as parameters here.
"""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from research import optimizers
from research.errors import UserError
from research.optimizers.masks import compiled, leaves_by_path
from research.optimizers.multipliers import frozen_statistics, never_trained
from research.training.checkpoints import Checkpoints
from research.training.recalibration import recalibrate
from research.training.setup import Setup
from research.training.state import TrainState


def start_from(run: Setup, state: TrainState) -> tuple[TrainState, dict[str, list[str]]]:
    """Takes over what `config.transfer` says from its checkpoint.

    Returns:
      The state, and what happened to each parameter: {'loaded': ours that were, 'fresh': ours that
      were skipped, 'unused': theirs that we have no place for, 'frozen': ours that stay}.

    Raises:
      UserError: no such checkpoint, patterns that match nothing, parameters that the checkpoint
        does not have or has in other shapes: all of them in one line.
    """
    config, settings = run.config, run.config.transfer
    theirs, preprocessing = _read(settings)
    theirs = {_renamed(settings, path, list(theirs)): array for path, array in theirs.items()}
    trees = {"params": state.params, "batch_stats": state.batch_stats}
    ours = _by_path(**trees)
    skip = [compiled("config.transfer.skip", pattern, list(ours)) for pattern in settings.skip]
    fresh = [path for path in ours if any(pattern.fullmatch(path) for pattern in skip)]
    wanted = [path for path in ours if path not in fresh]
    _check(settings, ours, theirs, wanted)
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
        state = state.replace(preprocessing=_same_shapes(preprocessing, state.preprocessing))
    optimizer = optimizers.build(config, state.hyperparameters, step=0)
    state = state.replace(**trees, opt_state=optimizer.init(trees["params"]))
    if settings.recalibrate:
        state = recalibrate(config, run.classes, state, run.train)
    return state, report


def told(report: dict[str, list[str]]) -> str:
    """The report as lines for the screen: `loaded 4: Dense_0/kernel, ...`."""
    return "\n".join(
        f"  {what} {len(paths)}: {', '.join(paths) or '-'}" for what, paths in report.items()
    )


def _read(settings) -> tuple[dict[str, np.ndarray], dict | None]:
    """All arrays by path, and the preprocessing they were trained with, where it is known."""
    path = Path(settings.checkpoint)
    if path.suffix == ".safetensors":
        from research.training import torch_names

        return torch_names.read(path), None
    if not (path / "checkpoints").is_dir():
        raise UserError(
            f"config.transfer.checkpoint = {str(path)!r} is neither a run folder with checkpoints "
            "nor a .safetensors file"
        )
    with Checkpoints(path, read_only=True) as checkpoints:
        weights = checkpoints.weights(checkpoints.find(settings.step))
    return _by_path(weights["params"], weights["batch_stats"]), weights["preprocessing"]


def _by_path(params, batch_stats) -> dict[str, np.ndarray]:
    """In the order that a tree of both has."""
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


def _same_shapes(theirs, ours):
    def shapes(tree):
        return jax.tree.map(np.shape, tree)

    if jax.tree.structure(theirs) != jax.tree.structure(ours) or shapes(theirs) != shapes(ours):
        raise UserError(
            "config.transfer.preprocessing = True: the checkpoint's preprocessing has other shapes "
            "than config.preprocessing gives (allowed: the same, or False to fit it anew)"
        )
    return jax.tree.map(jnp.asarray, theirs)
