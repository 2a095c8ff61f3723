"""Evaluate a trained state: metrics over a split, and arrays for pictures of its errors."""

import functools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import numpy as np

from research import processes
from research.atomic import replaced
from research.data import offsets, stream
from research.data.dataset import Arrays, Records
from research.data.feed import padded_batches, turned
from research.errors import UserError
from research.tasks import Task
from research.training import averages, ensembles, executors, metrics, scores
from research.training.digest import parameters_sha256
from research.training.recalibration import make_recalibrate, recalibrate
from research.training.setup import Setup
from research.training.sharding import Sharding

_FILTERS = 64
_GRID = 160  # points along each side of a plane
_OUTPUTS = 2**22  # numbers at a time, over all networks: 32 MB in float64


def compiled_evaluator(config, task: Task, split: Arrays | Records, state):
    """Return a function state -> sums over a split, on the device.

    Every example counts exactly once. For data in memory the function is compiled here, for states
    like the given one. For data on disk it is compiled at its first call.
    """
    _check_not_empty(split)
    run = jax.jit(executors.evaluator(ensembles.make_eval_step(config, task)))
    if isinstance(split, Arrays):
        batches = _batches(config, split)
        program = run.lower(state, batches).compile()
        return lambda state: program(state, batches)

    size = config.compute.evaluation_batch_size

    def from_disk(state):
        parts = (run(state, _batches(config, part)) for part in stream.chunks(split, size))
        return functools.reduce(metrics.add, parts)

    return from_disk


def validation_evaluator(run: Setup, state):
    """Return a function state -> sums over the validation split, by the names of `metrics.jsonl`.

    Returns:
      The function returns {'validation': sums for the weights, 'validation_averaged': sums for
      their average, if the run keeps one}.
    """
    evaluate = compiled_evaluator(run.config, run.task, run.validation, state)
    if not averages.kept(run.config):
        return lambda state: {"validation": evaluate(state)}
    average = _compiled_average(run, state)
    return lambda state: {
        "validation": evaluate(state),
        "validation_averaged": evaluate(average(state)),
    }


def _compiled_average(run: Setup, state):
    """Return a function state -> its averaged weights.

    Batch norm's statistics come from a sample of the training split.
    """
    if not recalibrated(run, state):
        return averages.averaged
    wanted = min(run.config.averaging.recalibration_examples, len(run.train))
    size = min(run.config.compute.evaluation_batch_size, wanted)
    inputs = run.spread(wanted // size * size)
    inputs = run.sharding.put(inputs.reshape(-1, size, *inputs.shape[1:]))
    recalibrate = ensembles.for_each(run.config, make_recalibrate(run.config, run.task))
    program = jax.jit(
        lambda state, inputs: recalibrate(averages.averaged(state), inputs),
        out_shardings=run.sharding.of_state(state),
    )
    program = program.lower(state, inputs).compile()
    return lambda state: program(state, inputs)


def whole_average(run: Setup, state):
    """Return the averaged weights for testing, with batch norm's statistics from all of train."""
    average = averages.averaged(state)
    if not recalibrated(run, state):
        return average
    return recalibrate(run.config, run.task, average, run.train, keep_frozen=True)


def recalibrated(run: Setup, state) -> bool:
    """Return whether batch-norm statistics are recomputed for averaged weights.

    They are not if `freeze_batch_stats` is set.
    """
    return bool(state.batch_stats) and averages.recalibrated(run.config)


def evaluate(config, task: Task, state, split: Arrays | Records) -> dict[str, float]:
    """Return the metrics of a state over a split by name, and the number of 'examples'."""
    sums = jax.device_get(compiled_evaluator(config, task, split, state)(state))
    return {**metrics.values(task, sums), "examples": len(split)}


def predict(config, task: Task, state, split: Arrays | Records) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean probabilities, float (N, C), and the labels, int (N,), of a whole split."""
    outputs, labels = predict_each(config, task, state, split)
    return task.predictions(outputs), labels


def predict_each(config, task: Task, state, split: Arrays | Records):
    """Return the outputs, float (members, N, ...), and the labels, (N, ...), of a split."""
    outputs, labels = zip(*predicted(config, task, [state], split), strict=True)
    return np.concatenate(outputs, axis=1), np.concatenate(labels)


def predicted(
    config, task: Task, states: Sequence, split: Arrays | Records, size: int = 0
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the predictions of all networks for a split, in parts that fit into memory.

    Args:
      config: config of the run.
      task: task of the run.
      states: states of the same run.
      split: the split to predict.
      size: number of examples of a part; 0: as many as fit.

    Yields:
      Outputs, float (networks, n, ...), in the unit of the user's targets, and labels (n, ...) of
      the next n examples.
    """
    _check_not_empty(split)
    function = ensembles.make_predict(config, task)
    run = jax.jit(
        lambda state, inputs: jax.lax.map(lambda batch: function(state, batch), inputs),
        out_shardings=Sharding.from_config(config).copied,
    )
    networks = sum(len(ensembles.names_of(state)) for state in states)
    for part in stream.chunks(split, size or part_size(config, split, task, networks)):
        inputs, found = _batches(config, part)["inputs"], []
        for state in states:
            outputs = np.asarray(run(state, inputs))  # (K, members, B, ...)
            members, rest = outputs.shape[1], outputs.shape[3:]
            outputs = outputs.swapaxes(0, 1).reshape(members, -1, *rest)
            found.append(outputs[:, : len(part)])
        yield np.concatenate(found), part.labels


def part_size(config, split: Arrays | Records, task: Task, networks: int) -> int:
    """Return how many examples to predict at a time, by so many networks."""
    batch = config.compute.evaluation_batch_size
    if isinstance(split, Records):  # inputs take memory too
        return batch
    positions = math.prod(split.labels.shape[1:]) if task.kind == "tokens" else 1
    return batch * max(1, _OUTPUTS // (task.outputs * positions * networks * batch))


def tested(run: Setup, states: Sequence) -> tuple[list[dict], dict]:
    """Return the scores over the test split of each network, and of their averaged predictions."""
    parts = predicted(run.config, run.task, states, run.test)
    return scores.scored_in_parts(run.task, parts, run.statistics.get("targets", {}))


def test_and_picture(run: Setup, state, workdir: Path, snapshots=()) -> dict:
    """Test a finished run once, and write `evaluation.npz` for the report.

    Args:
      run: the trained run.
      state: the last state.
      workdir: the folder for `evaluation.npz`.
      snapshots: earlier states, whose predictions are averaged with those of the last one.

    Returns:
      'test_<figure>' for `Task.figures` and `Task.beside`; 'parameter_count' and
      'parameters_sha256'. An ensemble also has 'members', 'members_mean' and 'members_spread'
      (`scores.compared`). If the last state holds an average of several weights,
      'averaged_test_<figure>'.
    """
    states, task = [*snapshots, state], run.task
    each, together = tested(run, states)
    names = [name for state in states for name in ensembles.names_of(state)]
    first = state if run.config.ensemble.members == 1 else ensembles.member(state, 0)
    found = task.pictures(together, run.test, lambda rows: run.test.load(rows).inputs)
    filters = _first_filters(first, run.test.shape)
    if filters is not None:
        found["filters"] = filters
    if run.test.shape == (2,) and task.kind == "classes":
        found |= plane(run, states)

    def write():
        with replaced(workdir / "evaluation.npz") as file:
            np.savez(file, **found)

    processes.alone(write)
    if len(each) == 1:
        test = scores.of_test(task.figures(together))
    else:
        test = scores.compared(task, each, together, names)
    test |= scores.of_test(task.beside(together))
    if averages.kept(run.config) and averages.of_several(state):
        _, average = tested(run, [whole_average(run, state)])
        figures = scores.of_test(task.figures(average))
        test |= {f"averaged_{name}": value for name, value in figures.items()}
    return {
        **test,
        "parameter_count": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "parameters_sha256": parameters_sha256(state),
    }


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
    found = (predict(run.config, run.task, state, unlabelled)[0] for state in states)
    probabilities = np.mean(list(found), axis=0)
    return {
        "plane_x": x + offset[0],
        "plane_y": y + offset[1],
        "plane_classes": probabilities.argmax(-1).reshape(_GRID, _GRID),
        "plane_points": points + offset,
        "plane_labels": run.test.labels,
    }


def _check_not_empty(split: Arrays | Records) -> None:
    if not len(split):
        raise UserError("an empty split cannot be evaluated (config.data.validation = 0 has none)")


def _batches(config, arrays: Arrays) -> dict:
    sharding, size = Sharding.from_config(config), config.compute.evaluation_batch_size
    batches = padded_batches(arrays.inputs, arrays.labels, size, sharding.parts)
    return sharding.put(batches, sharding.rows(axis=1))


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
