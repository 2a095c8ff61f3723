"""A small run of each task; as a program, `executed.py FILE` trains all on the devices there are.

The models count their calls in a collection of their own, and sow a number and an array.
"""

import dataclasses
import functools
import sys
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from research import platform
from research.config import default_config
from research.data.dataset import Arrays, Dataset
from research.models import mlp, transformer
from research.training import advance, evaluation, metrics, setup

STEPS, BATCH = 5, 16
TRAIN, VALIDATION, TEST = 40, 20, 20
MODES = ("jit", "shard_map", "pmap")
COMMON = {
    "batch_size": BATCH,
    "duration": f"{STEPS} steps",
    "schedule.name": "constant",
    "optimizer.name": "momentum",  # Adam divides by tiny numbers: it magnifies rounding
    "optimizer.learning_rate": 0.05,
    "averaging.name": "ema",
    "averaging.start": "1 steps",
    "model.name": "tasks.executed:counted_mlp",
    "model.hidden": (8,),
    "model.activation": "tanh",
    "model.normalization": "layer_norm",
    "compute.evaluation_batch_size": 10,  # no padding, which modules that sow would see
}
CASES = {
    "classification": {
        "loss.class_weights": ("balanced",),
        "loss.label_smoothing": 0.1,
        "metrics": ("macro_f1", "recall"),
    },
    "multilabel": {"loss.l2": 1e-3},
    "regression": {"loss.name": "huber"},
    "next_token": {
        "model.name": "tasks.executed:counted_transformer",
        "model.width": 8,
        "model.blocks": 1,
        "model.heads": 2,
    },
}
NAMES = {
    "classification": ("a", "b", "c"),
    "multilabel": ("x", "y", "z"),
    "regression": ("price", "length"),
    "next_token": ("a", "b", "c", "d", "e"),
}


class Counted(nn.Module):
    """A model that counts its training steps, and sows what it answers on average."""

    inner: nn.Module

    @nn.compact
    def __call__(self, x, train: bool):
        calls = self.variable("counters", "calls", lambda: jnp.zeros((), jnp.int32))
        outputs = self.inner(x, train)
        if train:
            calls.value += 1
        self.sow("metrics", "mean_square", jnp.square(outputs).mean())
        self.sow("metrics", "by_output", outputs.reshape(-1, outputs.shape[-1]).mean(0))
        return outputs


def counted_mlp(model, layers, outputs):
    return Counted(mlp.build(model, layers, outputs))


def counted_transformer(model, layers, outputs):
    return Counted(transformer.build(model, layers, outputs))


def data_of(task: str) -> dict[str, np.ndarray]:
    """Return arrays by name, as in an .npz file: classes and lengths are unequal."""
    random = np.random.default_rng(0)
    count, names = TRAIN + VALIDATION + TEST, NAMES[task]
    inputs = random.normal(size=(count, 4)).astype(np.float32)
    if task == "classification":
        labels = np.digitize(inputs[:, 0], [0.5, 1.2])
    elif task == "multilabel":
        labels = (inputs[:, : len(names)] > [0, 0.5, 1]).astype(np.uint8)
    elif task == "regression":
        labels = (inputs[:, :2] * [200, 0.02] + [7000, 1]).astype(np.float32)
    else:
        text = random.integers(0, len(names), (count, 7)).astype(np.int32)
        inputs, labels = text[:, :-1], text[:, 1:].copy()
        labels[np.arange(6) >= random.integers(1, 7, (count, 1))] = -1
    train, validation = slice(TRAIN), slice(TRAIN, TRAIN + VALIDATION)
    parts = {"train": train, "val": validation, "test": slice(TRAIN + VALIDATION, None)}
    return {
        f"{letter}_{part}": array[rows]
        for part, rows in parts.items()
        for letter, array in (("x", inputs), ("y", labels))
    }


def dataset_of(task: str) -> Dataset:
    found = data_of(task)
    splits = {part: Arrays(found[f"x_{part}"], found[f"y_{part}"]) for part in ("train", "test")}
    validation = Arrays(found["x_val"], found["y_val"])
    kind = {"classification": "classes", "multilabel": "labels", "regression": "numbers"}
    return Dataset(
        task, **splits, class_names=NAMES[task], validation=validation,
        kind=kind.get(task, "tokens"),
    )  # fmt: skip


def config_of(task: str, **changes):
    config = default_config()
    config.task.name = task
    config.update_from_flattened_dict({**COMMON, **CASES[task], **changes})
    return config


@dataclasses.dataclass(frozen=True)
class Run:
    """The set-up of a task's run, and its compiled programs."""

    setup: setup.Setup
    advance: Callable  # (state, steps) -> (state, metrics)
    evaluate: Callable  # state -> sums over the validation split

    def trained(self, state, *dispatches: int):
        """Train for so many steps in each dispatch: the last state, and the metrics of all."""
        found = []
        for steps in dispatches:
            state, of_steps = self.advance(state, steps)
            found.append(jax.device_get(of_steps))
        return state, functools.reduce(lambda a, b: metrics.join(a, b, np), found)

    def numbers(self, state, sums: metrics.Sums) -> dict[str, np.ndarray]:
        """Return by name: parameters, collections, averages, metrics of training, validation."""
        evaluated = self.evaluate(state)
        tree = {
            "params": state.params,
            "collections": state.collections,
            "averages": state.averages,
            "train": metrics.values(self.setup.task, jax.device_get(sums)),
            "validation": metrics.values(self.setup.task, jax.device_get(evaluated)),
        }
        leaves = jax.tree_util.tree_flatten_with_path(jax.device_get(tree))[0]
        return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


@functools.cache
def run_of(task: str, *changes: tuple) -> Run:
    """Return the run of a task, with changes of its config: pairs of key and value."""
    config = config_of(task, **dict(changes))
    run = setup.from_split(config, dataset_of(task), np.arange(TRAIN), None)
    state = run.init()
    evaluate = evaluation.compiled_evaluator(run.config, run.task, run.validation, state)
    return Run(run, advance.over_arrays(run, state), evaluate)


def numbers_of(task: str, *changes: tuple) -> dict[str, np.ndarray]:
    """Train in two dispatches and evaluate: numbers by name."""
    run = run_of(task, *changes)
    state, of_steps = run.trained(run.setup.init(), 2, STEPS - 2)
    return run.numbers(state, of_steps.sums)


if __name__ == "__main__":
    platform.enable_compilation_cache()
    found = {
        f"{task} {mode} {name}": array
        for task in CASES
        for mode in MODES
        for name, array in numbers_of(task, ("parallel.mode", mode)).items()
    }
    np.savez(sys.argv[1], devices=jax.device_count(), **found)
