"""Tasks: what a network learns.

`config.task.name` is a file of this folder with a class `build`, or the dotted name of a subclass
of `Task` of the user's own.
"""

import sys
from collections.abc import Sequence

from ml_collections import ConfigDict

from research import names as by_name
from research.tasks.task import Task

__all__ = ["Task", "build", "directions", "kind", "names"]


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


def directions(config: ConfigDict) -> dict[str, bool]:
    """Return whether more is better, for each metric that may judge a run: see `Task.directions`.

    Raises:
      UserError: an unknown task or metric.
    """
    return _class(config).directions(config)


def names() -> list[str]:
    """Return the tasks there are: the files of this folder that define a `build`."""
    return list(by_name.choices(sys.modules[__name__]))


def _class(config: ConfigDict) -> type[Task]:
    found = by_name.resolve("config.task.name", config.task.name, sys.modules[__name__])
    return getattr(found, "build", found)
