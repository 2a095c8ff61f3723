"""Every name a config may use, with its formula, paper and numbers: python -m research.vocabulary.

The page is made of the docstrings and signatures; docs/vocabulary.md is a copy that a test keeps
true.
"""

import inspect
from types import ModuleType

from research.data import augmentation, mixing, preprocessing
from research.models import (
    activations,
    data_dependent,
    initializers,
    normalization,
    pooling,
    regularization,
)
from research.names import numbers_of, public_functions
from research.optimizers import algorithms, averaging, schedules
from research.training import lanes, modes

# The keys of the config whose values are names, and the modules whose functions they name.
NAMED: dict[str, ModuleType] = {
    "preprocessing.name": preprocessing,
    "augmentation.names": augmentation,
    "augmentation.mixing": mixing,
    "model.activation": activations,
    "model.initializer": initializers,
    "model.fit_weights": data_dependent,
    "model.normalization": normalization,
    "model.pooling": pooling,
    "model.dropout": regularization,
    "optimizer.name": algorithms,
    "schedule.name": schedules,
    "averaging.name": averaging,
    "ensemble.lanes": lanes,
    "parallel.mode": modes,
}


def page() -> str:
    """The page, in Markdown."""
    parts = [
        "# Vocabulary\n"
        "Every name that a config may use, made from the code by `python -m research.vocabulary`. "
        "Numbers are keys of\nthe same section of the config; but for sizes, counts and those of "
        "preprocessing they are\ntraced: changing one does not recompile.\n"
    ]
    for key, module in NAMED.items():
        summary = inspect.getdoc(module).partition("\n\n")[0]
        rows = [
            f"| `{name}` | {_told(function)} | {_numbers(key, function)} |"
            for name, function in public_functions(module).items()
        ]
        table = "\n".join(["| Name | What it is | Numbers |", "|---|---|---|", *rows])
        parts.append(f"## config.{key}\n{summary}\n\n{table}\n")
    return "\n".join(parts)


def _told(function) -> str:
    """The docstring up to its sections, as one line of a table."""
    text = inspect.getdoc(function)
    for section in ("Args:", "Returns:", "Raises:"):
        text = text.partition(f"\n{section}\n")[0]
    return " ".join(text.split()).replace("|", "\\|").replace("*", "\\*")


def _numbers(key: str, function) -> str:
    section = key.rpartition(".")[0]
    prefix = f"{section}." if section else ""
    names = [name for name in numbers_of(function) if name not in augmentation.OF_THE_BATCH]
    return ", ".join(f"`{prefix}{name}`" for name in names)


if __name__ == "__main__":
    print(page(), end="")
