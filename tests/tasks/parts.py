"""What the tests of tasks share: a task by its name, and its metrics over random parts."""

import jax
import numpy as np

from research import tasks
from research.config import default_config
from research.training import metrics
from research.training.metrics import Sums

SIZE = 16  # of a padded part, always the same, so that little is compiled


def task_of(name, names, **changes):
    """Return a task with outputs of these names."""
    config = default_config()
    config.task.name = name
    config.update_from_flattened_dict(changes)
    return tasks.build(config, tuple(names))


def evaluator(task):
    """Return a function (outputs, labels, statistics, random) -> the reported metrics.

    It cuts examples into parts of random sizes, pads each with examples that do not count, in
    random places, and adds up the parts.
    """

    def of_part(outputs, labels, mask, statistics):
        targets = task.targets(labels, statistics)
        preprocessing = {"targets": statistics} if statistics else {}
        return Sums(metrics.of_batch(task, outputs, targets, mask, preprocessing))

    of_part = jax.jit(of_part)

    def evaluated(outputs, labels, statistics, random):
        total, start = None, 0
        while start < len(labels):
            rows = np.arange(start, min(start + random.integers(1, SIZE + 1), len(labels)))
            mask = np.zeros(SIZE, bool)
            mask[random.permutation(SIZE)[: len(rows)]] = True
            taken = random.integers(0, len(labels), SIZE)
            taken[mask] = rows
            sums = of_part(outputs[taken], labels[taken], mask, statistics)
            total = sums if total is None else metrics.add(total, sums)
            start += len(rows)
        return metrics.values(task, jax.device_get(total))

    return evaluated


def close(found: dict, wanted: dict, rel: float) -> None:
    """Assert that all wanted figures are found, NaN where NaN is wanted."""
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=rel, atol=rel, err_msg=name)
