"""Test a finished run once, and collect the arrays that its report draws."""

import functools
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from research import processes
from research.atomic import replaced
from research.data import offsets
from research.data.dataset import Arrays
from research.data.feed import turned
from research.training import averages, ensembles, evaluation, generation, scores
from research.training.digest import parameters_sha256
from research.training.setup import Setup

_FILTERS = 64
_SAMPLES, _PROMPT, _WRITTEN = 3, 40, 300  # texts, and tokens given and written in each
_GRID = 160  # points along each side of a plane


def tested(run: Setup, states: Sequence) -> tuple[list[dict], dict]:
    """Return the scores over the test split of each network, and of their averaged predictions."""
    parts = evaluation.predicted(run.config, run.task, states, run.test)
    return scores.scored_in_parts(run.task, parts, run.statistics.get("targets", {}))


def test_and_picture(run: Setup, state, workdir: Path, snapshots=()) -> dict:
    """Test a finished run once, and write `evaluation.npz` for the report.

    Args:
      run: the trained run.
      state: the last state.
      workdir: the folder for `evaluation.npz`.
      snapshots: earlier states, whose predictions are averaged with those of the last one.

    Returns:
      'test_<figure>' for `Task.figures` and `Task.beside`, and with `config.metrics` for all
      metrics of `metrics.jsonl`, of the last state; 'parameter_count' and
      'parameters_sha256'. An ensemble also has 'members', 'members_mean' and 'members_spread'
      (`scores.compared`). If the last state holds an average of several weights,
      'averaged_test_<figure>'.
    """
    states, task = [*snapshots, state], run.task
    each, together = tested(run, states)
    names = [name for state in states for name in ensembles.names_of(state)]
    first = state if run.config.ensemble.members == 1 else ensembles.member(state, 0)
    arrays = task.pictures(together, run.test, lambda rows: run.test.load(rows).inputs)
    filters = _first_filters(first, run.test.shape)
    if filters is not None:
        arrays["filters"] = filters
    if task.kind == "tokens":
        arrays["samples"] = samples(run, first)
    if run.test.shape == (2,) and task.kind == "classes":
        arrays |= plane(run, states)

    def write():
        with replaced(workdir / "evaluation.npz") as file:
            np.savez(file, **arrays)

    processes.alone(write)
    if len(each) == 1:
        test = scores.of_test(task.figures(together))
    else:
        test = scores.compared(task, each, together, names)
    test |= scores.of_test(task.beside(together))
    if run.config.metrics:  # those that only the device computes, such as a user's own
        on_device = evaluation.evaluate(run.config, task, state, run.test)
        of_test = {k: v for k, v in on_device.items() if k not in ("examples", "members")}
        test = scores.of_test(of_test) | test
    if averages.kept(run.config) and averages.of_several(state):
        _, average = tested(run, [evaluation.whole_average(run, state)])
        figures = scores.of_test(task.figures(average))
        test |= {f"averaged_{name}": value for name, value in figures.items()}
    return {
        **test,
        "parameter_count": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "parameters_sha256": parameters_sha256(state),
    }


def samples(run: Setup, state) -> np.ndarray:
    """Return texts that a language model writes: each begins with the start of a test example."""
    starts = run.test.inputs[np.linspace(0, len(run.test) - 1, _SAMPLES, dtype=int), :_PROMPT]
    prompts = ["".join(run.class_names[token] for token in start) for start in starts]
    return np.array([generation.text(run, state, prompt, _WRITTEN, 0.7, 0) for prompt in prompts])


def plane(run: Setup, states: Sequence) -> dict[str, np.ndarray]:
    """Return the predicted class at each point of a grid, and the test points, for 2-D data."""
    points = run.test.inputs
    low, high = points.min(0), points.max(0)
    margin = 0.1 * (high - low)
    x, y = np.linspace(low - margin, high + margin, _GRID, dtype=np.float32).T
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    offset = offsets.of(run.statistics, run.test.shape)  # axes are in the user's units
    offset = np.zeros(2, np.float32) if offset is None else offset
    unlabelled = Arrays(grid, np.zeros(len(grid), np.int32))
    predictions = (
        evaluation.predict(run.config, run.task, state, unlabelled)[0] for state in states
    )
    probabilities = np.mean(list(predictions), axis=0)
    return {
        "plane_x": x + offset[0],
        "plane_y": y + offset[1],
        "plane_classes": probabilities.argmax(-1).reshape(_GRID, _GRID),
        "plane_points": points + offset,
        "plane_labels": run.test.labels,
    }


def _first_filters(state, shape) -> np.ndarray | None:
    for name in ("Conv_0", "Dense_0"):
        kernel = state.params.get(name, {}).get("kernel")
        if kernel is None or len(shape) != 3:
            continue
        kernel = processes.on_host(kernel).astype(np.float32)
        if kernel.ndim == 2:
            kernel = np.moveaxis(_on_pixels(state.preprocessing, kernel, shape), 0, -1)
        if kernel.shape[2] in (1, 3):
            return np.moveaxis(kernel, -1, 0)[:_FILTERS]
    return None


def _on_pixels(statistics, kernel: np.ndarray, shape) -> np.ndarray:
    """Return the whitening matrix times the kernel: (K, F) -> (F, *shape), A (B x) = (A B) x."""
    seen, back = jax.vjp(
        functools.partial(turned, statistics), np.zeros((kernel.shape[1], *shape), np.float32)
    )
    return np.asarray(back(kernel.T.reshape(seen.shape))[0])
