"""Evaluate a trained state: metrics over a split, and arrays for pictures of its errors."""

import functools
import math
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from research.data import stream
from research.data.dataset import Arrays, Records
from research.data.feed import padded_batches
from research.errors import UserError
from research.tasks import Task
from research.training import averages, ensembles, executors, metrics
from research.training.recalibration import make_recalibrate, recalibrate
from research.training.setup import Setup
from research.training.sharding import Sharding

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
        inputs, of_states = _batches(config, part)["inputs"], []
        for state in states:
            offset = _target_offset(state)
            outputs = np.asarray(run(state, inputs))  # (K, members, B, ...)
            members, rest = outputs.shape[1], outputs.shape[3:]
            outputs = outputs.swapaxes(0, 1).reshape(members, -1, *rest)
            of_states.append(_shifted(outputs[:, : len(part)], offset))
        yield np.concatenate(of_states), _shifted(part.labels, offset)


def _shifted(values: np.ndarray, offset: np.ndarray | float) -> np.ndarray:
    return values + offset if np.any(offset) else values


def _target_offset(state) -> np.ndarray | float:
    """Return what was subtracted from the targets, float64 (K,); 0 if nothing was."""
    offset = state.preprocessing.get("targets", {}).get("offset")
    return 0.0 if offset is None else np.asarray(offset).sum(0, dtype=np.float64)


def part_size(config, split: Arrays | Records, task: Task, networks: int) -> int:
    """Return how many examples to predict at a time, by so many networks."""
    batch = config.compute.evaluation_batch_size
    if isinstance(split, Records):  # inputs take memory too
        return batch
    positions = math.prod(split.labels.shape[1:]) if task.kind == "tokens" else 1
    return batch * max(1, _OUTPUTS // (task.outputs * positions * networks * batch))


def _check_not_empty(split: Arrays | Records) -> None:
    if not len(split):
        raise UserError("an empty split cannot be evaluated (config.data.validation = 0 has none)")


def _batches(config, arrays: Arrays) -> dict:
    sharding, size = Sharding.from_config(config), config.compute.evaluation_batch_size
    batches = padded_batches(arrays.inputs, arrays.labels, size, sharding.parts)
    return sharding.put(batches, sharding.rows(axis=1))
