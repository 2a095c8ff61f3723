"""Evaluation of a trained state: metrics over a split, and material for pictures of its errors."""

import jax
import numpy as np
from scipy.special import softmax

from research.data.feed import padded_batches
from research.data.sources import Arrays
from research.training import executors
from research.training.loop import mean
from research.training.step import make_eval_step, make_predict

_MISTAKES = 24
_FILTERS = 64


def compiled_evaluator(config, classes: int, arrays: Arrays):
    """A function state -> sums over a split, on the device; every example counts exactly once."""
    batches = padded_batches(arrays.inputs, arrays.labels, config.compute.evaluation_batch_size)
    run = jax.jit(executors.evaluator(make_eval_step(config, classes)))
    return lambda state: run(state, batches)


def evaluate(config, classes: int, state, arrays: Arrays) -> dict[str, float]:
    """{'loss', 'accuracy', 'examples'} of a state over a split."""
    sums = jax.device_get(compiled_evaluator(config, classes, arrays)(state))
    if int(sums["count"]) != len(arrays.labels):
        raise AssertionError(f"{int(sums['count'])} examples counted of {len(arrays.labels)}")
    return {**mean(sums), "examples": len(arrays.labels)}


def predict(config, classes: int, state, arrays: Arrays) -> np.ndarray:
    """The probabilities of every example of a split: float (N, classes)."""
    batches = padded_batches(arrays.inputs, arrays.labels, config.compute.evaluation_batch_size)
    function = make_predict(config, classes)
    run = jax.jit(lambda state, inputs: jax.lax.map(lambda batch: function(state, batch), inputs))
    logits = np.asarray(run(state, batches["inputs"]))
    return softmax(logits.reshape(-1, classes)[: len(arrays.labels)], axis=-1)


def pictures(probabilities: np.ndarray, arrays: Arrays, class_names, params) -> dict:
    """What a report draws, as plain arrays for `evaluation.npz`.

    Returns:
      'confusion' int (C, C), rows are true classes; 'class_names'; the most confident mistakes
      ('mistake_images', '_labels', '_predictions', '_confidences'; images only where inputs are);
      'filters' float (F, h, w, c) where the first layer's weights are an image each.
    """
    classes = len(class_names)
    predicted = probabilities.argmax(-1)
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (arrays.labels, predicted), 1)
    confidence = probabilities.max(-1)
    wrong = np.flatnonzero(predicted != arrays.labels)
    worst = wrong[np.argsort(-confidence[wrong])][:_MISTAKES]
    found = {
        "confusion": confusion,
        "class_names": np.array(class_names),
        "mistake_labels": arrays.labels[worst],
        "mistake_predictions": predicted[worst],
        "mistake_confidences": confidence[worst],
    }
    if arrays.inputs.dtype == np.uint8 and arrays.inputs.ndim == 4:
        found["mistake_images"] = arrays.inputs[worst]
    filters = _first_filters(params, arrays.inputs.shape[1:])
    if filters is not None:
        found["filters"] = filters
    return found


def _first_filters(params, shape) -> np.ndarray | None:
    for name in ("Conv_0", "Dense_0"):
        kernel = params.get(name, {}).get("kernel")
        if kernel is None or len(shape) != 3:
            continue
        kernel = np.asarray(kernel, np.float32)
        if kernel.ndim == 2:
            kernel = kernel.reshape(*shape, -1)
        if kernel.shape[2] in (1, 3):
            return np.moveaxis(kernel, -1, 0)[:_FILTERS]
    return None
