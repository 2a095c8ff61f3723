"""Evaluation of a trained state: metrics over a split, and material for pictures of its errors."""

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path

import jax
import numpy as np
from scipy.special import softmax

from research import processes
from research.atomic import replaced
from research.data import offsets
from research.data.feed import padded_batches, turned
from research.data.sources import Arrays, Records
from research.errors import UserError
from research.training import averages, ensembles, executors
from research.training.calibration import reliability
from research.training.digest import parameters_sha256
from research.training.layout import Layout
from research.training.loop import mean
from research.training.recalibration import make_recalibrate, recalibrate
from research.training.setup import Setup

_MISTAKES = 24
_FILTERS = 64
_GRID = 160  # points along each side of a plane


def compiled_evaluator(config, classes: int, split: Arrays | Records, state):
    """A function state -> sums over a split, on the device; every example counts exactly once.

    Compiled here, for states like the one given; for data on disk when they are first read.
    """
    _check_not_empty(split)
    run = jax.jit(executors.evaluator(ensembles.make_eval_step(config, classes)))
    if isinstance(split, Arrays):
        batches = _batches(config, split)
        program = run.lower(state, batches).compile()
        return lambda state: program(state, batches)

    def from_disk(state):
        parts = (run(state, _batches(config, part)) for part in _parts(config, split))
        return functools.reduce(executors.add, parts)

    return from_disk


def validation_evaluator(run: Setup, state):
    """A function state -> sums over the validation split, by the names of `metrics.jsonl`.

    Returns:
      {'validation': of the weights, 'validation_averaged': of their average, where one is kept}.
    """
    evaluate = compiled_evaluator(run.config, run.classes, run.validation, state)
    if not averages.kept(run.config):
        return lambda state: {"validation": evaluate(state)}
    average = _compiled_average(run, state)
    return lambda state: {
        "validation": evaluate(state),
        "validation_averaged": evaluate(average(state)),
    }


def _compiled_average(run: Setup, state):
    """state -> its average, with batch norm's statistics from a sample of the training split."""
    if not recalibrated(run, state):
        return averages.averaged
    wanted = min(run.config.averaging.recalibration_examples, len(run.train))
    size = min(run.config.compute.evaluation_batch_size, wanted)
    inputs = run.spread(wanted // size * size)
    inputs = run.layout.put(inputs.reshape(-1, size, *inputs.shape[1:]))
    recalibrate = ensembles.for_each(run.config, make_recalibrate(run.config, run.classes))
    program = jax.jit(
        lambda state, inputs: recalibrate(averages.averaged(state), inputs),
        out_shardings=run.layout.of_state(state),
    )
    program = program.lower(state, inputs).compile()
    return lambda state: program(state, inputs)


def whole_average(run: Setup, state):
    """The average of the weights as it is tested: batch norm's statistics from all of train."""
    average = averages.averaged(state)
    if not recalibrated(run, state):
        return average
    return recalibrate(run.config, run.classes, average, run.train, keep_frozen=True)


def recalibrated(run: Setup, state) -> bool:
    """Whether averaged weights get statistics of their own: not where training kept fixed ones."""
    return bool(state.batch_stats) and averages.recalibrated(run.config)


def evaluate(config, classes: int, state, split: Arrays | Records) -> dict[str, float]:
    """{'loss', 'accuracy', 'examples'} of a state over a split."""
    sums = jax.device_get(compiled_evaluator(config, classes, split, state)(state))
    if int(sums["count"]) != len(split):
        raise AssertionError(f"{int(sums['count'])} examples counted of {len(split)}")
    return {**mean(sums), "examples": len(split)}


def predict(config, classes: int, state, split: Arrays | Records) -> tuple[np.ndarray, np.ndarray]:
    """The probabilities, float (N, classes), and the labels, int (N,), of a whole split.

    Of several members the mean of their probabilities.
    """
    logits, labels = predict_each(config, classes, state, split)
    return softmax(logits, axis=-1).mean(0), labels


def predict_each(config, classes: int, state, split: Arrays | Records):
    """The logits, float (members, N, classes), and the labels, int (N,), of a whole split."""
    _check_not_empty(split)
    function = ensembles.make_predict(config, classes)
    run = jax.jit(
        lambda state, inputs: jax.lax.map(lambda batch: function(state, batch), inputs),
        out_shardings=Layout.from_config(config).copied,
    )
    parts, labels = [], []
    for part in _parts(config, split):
        found = np.asarray(run(state, _batches(config, part)["inputs"]))  # (K, members, B, classes)
        found = found.swapaxes(0, 1).reshape(found.shape[1], -1, classes)
        parts.append(found[:, : len(part)])
        labels.append(part.labels)
    return np.concatenate(parts, axis=1), np.concatenate(labels)


def test_and_picture(run: Setup, state, workdir: Path, snapshots=()) -> dict:
    """The end of a run: the test split, looked at once, and `evaluation.npz` for the report.

    Args:
      run: what was trained.
      state: the last one.
      workdir: where the pictures go.
      snapshots: states before it, for its predictions to be averaged with theirs.

    Returns:
      'test_accuracy', 'test_loss', 'test_ece', 'parameter_count' and 'parameters_sha256'; of an
      ensemble also 'members', 'members_mean' and 'members_spread' (`ensembles.compared`); where an
      average of several weights is kept 'averaged_test_accuracy', '..._loss' and '..._ece' of the
      last one.
    """
    states = [*snapshots, state]
    each = [predict_each(run.config, run.classes, state, run.test) for state in states]
    logits, labels = np.concatenate([logits for logits, _ in each]), each[0][1]
    names = [name for state in states for name in ensembles.names_of(state)]
    first = state if run.config.ensemble.members == 1 else ensembles.member(state, 0)
    probabilities = softmax(logits, axis=-1).mean(0)
    found = pictures(probabilities, labels, run.test, run.class_names, first)
    if run.test.shape == (2,):
        found |= plane(run, states)

    def write():
        with replaced(workdir / "evaluation.npz") as file:
            np.savez(file, **found)

    processes.alone(write)
    if len(logits) == 1:
        test = {f"test_{name}": of for name, of in ensembles.figures(logits, labels).items()}
    else:
        test = ensembles.compared(logits, labels, names)
    if averages.kept(run.config) and averages.of_several(state):
        average, _ = predict_each(run.config, run.classes, whole_average(run, state), run.test)
        found = ensembles.figures(average, labels)
        test |= {f"averaged_test_{name}": value for name, value in found.items()}
    return {
        **test,
        "parameter_count": sum(leaf.size for leaf in jax.tree.leaves(state.params)),
        "parameters_sha256": parameters_sha256(state),
    }


def pictures(
    probabilities: np.ndarray, labels: np.ndarray, split: Arrays | Records, class_names, state
) -> dict:
    """What a report draws, as plain arrays for `evaluation.npz`.

    Returns:
      'confusion' int (C, C), rows are true classes; 'class_names'; 'reliability_counts',
      '_confidences' and '_accuracies' of `calibration.reliability`; the most confident mistakes
      ('mistake_images', '_labels', '_predictions', '_confidences'; images only where inputs are);
      'filters' float (F, h, w, c) where the first layer's weights are an image each; those of a
      dense layer as they act on the pixels, before any whitening.
    """
    classes = len(class_names)
    predicted = probabilities.argmax(-1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (labels, predicted), 1)
    confidence = probabilities.max(-1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(-confidence[wrong])][:_MISTAKES]
    found = {
        "confusion": confusion,
        "class_names": np.array(class_names),
        "mistake_labels": labels[worst],
        "mistake_predictions": predicted[worst],
        "mistake_confidences": confidence[worst],
    }
    if worst.size and split.shape[2:] in ((1,), (3,)):
        found["mistake_images"] = _as_bytes(split.load(worst).inputs)
    bins = reliability(probabilities, labels)
    found |= {f"reliability_{name}": values for name, values in bins.items()}
    filters = _first_filters(state, split.shape)
    if filters is not None:
        found["filters"] = filters
    return found


def plane(run: Setup, states: Sequence) -> dict[str, np.ndarray]:
    """For data in two dimensions: which class wins at each point of a grid, and the test points."""
    points = run.test.inputs
    low, high = points.min(0), points.max(0)
    margin = 0.1 * (high - low)
    x, y = np.linspace(low - margin, high + margin, _GRID, dtype=np.float32).T
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    offset = offsets.of(run.statistics, run.test.shape)  # for the axes are the user's
    offset = np.zeros(2, np.float32) if offset is None else offset
    unlabelled = Arrays(grid, np.zeros(len(grid), np.int32))
    found = (predict(run.config, run.classes, state, unlabelled)[0] for state in states)
    probabilities = np.mean(list(found), axis=0)
    return {
        "plane_x": x + offset[0],
        "plane_y": y + offset[1],
        "plane_classes": probabilities.argmax(-1).reshape(_GRID, _GRID),
        "plane_points": points + offset,
        "plane_labels": run.test.labels,
    }


def _as_bytes(images: np.ndarray) -> np.ndarray:
    """Return images to be looked at, uint8: floats are scaled from the range of them all."""
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())
    shares = (images.astype(np.float64) - low) / (high - low or 1.0)
    return np.round(255 * shares).astype(np.uint8)


def _check_not_empty(split: Arrays | Records) -> None:
    if not len(split):
        raise UserError("an empty split cannot be evaluated (config.data.validation = 0 has none)")


def _parts(config, split: Arrays | Records) -> Iterable[Arrays]:
    """A split in parts that fit into memory."""
    if isinstance(split, Arrays):
        return (split,)
    from research.data import stream

    return stream.chunks(split, config.compute.evaluation_batch_size)


def _batches(config, arrays: Arrays) -> dict:
    layout, size = Layout.from_config(config), config.compute.evaluation_batch_size
    batches = padded_batches(arrays.inputs, arrays.labels, size, layout.parts)
    return layout.put(batches, layout.rows(axis=1))


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
    """(K, F) -> (F, *shape): the matrix of whitening times the kernel, A (B x) = (A B) x."""
    seen, back = jax.vjp(
        functools.partial(turned, statistics), np.zeros((kernel.shape[1], *shape), np.float32)
    )
    return np.asarray(back(kernel.T.reshape(seen.shape))[0])
