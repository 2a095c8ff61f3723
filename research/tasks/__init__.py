"""Tasks: what a network learns. `config.task.name` is a file of this folder with a `build`."""

import importlib
import pkgutil
from collections.abc import Sequence

from ml_collections import ConfigDict

from research.errors import unknown_name
from research.tasks.metrics import Metric, metric
from research.tasks.task import Task

__all__ = ["Metric", "Task", "build", "kind", "metric", "names"]


def build(config: ConfigDict, names: Sequence[str]) -> Task:
    """Return the task of a config.

    Args:
      config: the whole config; `config.task.name` is a file of this folder.
      names: names of the outputs: classes, labels, target columns or tokens.

    Raises:
      UserError: an unknown task, loss or metric.
    """
    return _class(config)(config, tuple(names))


def kind(config: ConfigDict) -> str:
    """Return the kind of targets that the task of a config needs: see `Task.kind`."""
    return _class(config).kind


def names() -> list[str]:
    """Return the tasks there are: the files of this folder that define a `build`."""
    files = (info.name for info in pkgutil.iter_modules(__path__))
    return [name for name in files if hasattr(_module(name), "build")]


def _class(config: ConfigDict) -> type[Task]:
    name = config.task.name
    if name not in names():
        raise unknown_name("config.task.name", name, names())
    return _module(name).build


def _module(name: str):
    return importlib.import_module(f"{__name__}.{name}")
