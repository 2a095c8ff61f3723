"""Read ResNets of torchvision and timm from a .safetensors file, under our ResNets' names."""

import re
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file

from research.errors import UserError

_MODULES = {"conv": "Conv", "bn": "BatchNorm"}
_LEAVES = {
    "fc": {"weight": "kernel", "bias": "bias"},
    "conv": {"weight": "kernel"},
    "bn": {"weight": "scale", "bias": "bias", "running_mean": "mean", "running_var": "var"},
}


def read(path: Path) -> dict[str, np.ndarray]:
    """Return all arrays of the file, renamed, in the layouts of our layers.

    Returns:
      {'Conv_0/kernel': float32 (7, 7, 3, 64), 'BatchNorm_0/mean': (64,), ..., 'head/bias': (C,)}.

    Raises:
      UserError: no such file, a damaged one, or names that no ResNet of torchvision has.
    """
    if not path.is_file():
        raise UserError(f"config.transfer.checkpoint = {str(path)!r}: no such file")
    try:
        arrays = load_file(path)
    except (SafetensorError, AttributeError, OSError) as error:  # AttributeError: float8
        raise UserError(f"{path} is damaged: {error}") from None
    blocks = {}  # convolutions on the main path of a block, by 'layer1.0'
    for name in arrays:
        if match := re.fullmatch(r"(layer\d\.\d{1,3})\.conv(\d)\.weight", name):
            blocks[match[1]] = max(int(match[2]), blocks.get(match[1], 0))
    return dict(
        _converted(name, array, blocks)
        for name, array in arrays.items()
        if not name.endswith("num_batches_tracked")
    )


def _converted(name: str, array: np.ndarray, blocks: dict[str, int]) -> tuple[str, np.ndarray]:
    module, _, leaf = name.rpartition(".")
    block = re.match(r"(layer(\d)\.(\d{1,3}))\.", module)
    prefix = f"stage{block[2]}_block{int(block[3]) + 1}/" if block else ""
    if module == "fc" and leaf in _LEAVES["fc"]:
        return f"head/{_LEAVES['fc'][leaf]}", array.T
    kind = None
    if match := re.fullmatch(r"(layer\d\.\d{1,3}\.)?(conv|bn)(\d)", module):
        kind, number = match[2], int(match[3]) - 1
    elif match := re.fullmatch(r"layer\d\.\d{1,3}\.downsample\.([01])", module):
        # The shortcut comes after the main path.
        kind, number = ("conv", "bn")[int(match[1])], blocks.get(block and block[1])
    if kind is None or number is None or leaf not in _LEAVES[kind]:
        raise UserError(f"{name!r} is no parameter of a ResNet of torchvision or timm")
    if kind == "conv":
        if array.ndim != 4:
            raise UserError(f"{name!r} has shape {array.shape} (allowed: of four axes)")
        array = array.transpose(2, 3, 1, 0)
    return f"{prefix}{_MODULES[kind]}_{number}/{_LEAVES[kind][leaf]}", array
