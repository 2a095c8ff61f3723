"""Run the one train step many times in one call of a compiled program."""

from collections.abc import Callable

import jax

from research.data.shuffle import batch_epochs, batch_indices
from research.training import metrics


def resident(
    train_step: Callable, batch_size: int, place: Callable = lambda rows: rows
) -> Callable:
    """Return a program that runs n steps in one dispatch over data that live on the device.

    The batch of a step is gathered by `batch_indices(seed, step)`. The number of steps is a traced
    argument, so that one compilation serves dispatches of every length.

    Args:
      train_step: from `training/step.py`.
      batch_size: number of examples in a batch.
      place: may tell the compiler how the indices of a batch, and so its rows, are sharded.

    Returns:
      `run(state, data, steps) -> (state, StepMetrics)`. `data` is {'inputs': (N, ...), 'labels':
      (N, ...)}. If only some examples are for training, it also has 'rows', int32 (n,), their
      numbers, and 'examples', an int32 scalar: only the first `examples` rows count.
    """
    # The loop needs the shapes of the metrics before it starts. An inlined jit traces the step once
    # for both, and leaves the program as it is.
    train_step = jax.jit(train_step, inline=True)

    def run(state, data, steps):
        rows = data.get("rows")
        examples = len(data["labels"]) if rows is None else data["examples"]
        most = None if rows is None else len(rows)

        def batch_of(state):
            seed = state.hyperparameters["seed"]
            indices = place(batch_indices(seed, state.step, batch_size, examples, most))
            taken = indices if rows is None else rows[indices]
            batch = {name: data[name][taken] for name in ("inputs", "labels")}
            epochs = batch_epochs(state.step, batch_size, examples)
            return batch | {"indices": indices, "epochs": epochs}  # no code if nothing reads them

        def body(_, carry):
            state, so_far = carry
            state, of_step = train_step(state, batch_of(state))
            return state, metrics.join(so_far, of_step)

        nothing = no_metrics(train_step, state, jax.eval_shape(batch_of, state))
        return jax.lax.fori_loop(0, steps, body, (state, nothing))

    return run


def streamed(train_step: Callable) -> Callable:
    """Return a program that runs one step on a batch that comes from outside.

    Returns:
      `run(state, metrics, batch) -> (state, metrics)`, the step's metrics joined to those given.
    """

    def run(state, so_far, batch):
        state, of_step = train_step(state, batch)
        return state, metrics.join(so_far, of_step)

    return run


def no_metrics(train_step: Callable, state, batch) -> metrics.StepMetrics:
    """Return the metrics of no step at all, to which others are joined.

    `state` and `batch` may be shapes.
    """
    _, shapes = jax.eval_shape(train_step, state, batch)
    return metrics.zeros(shapes)


def evaluator(eval_step: Callable) -> Callable:
    """Return a program that adds up `eval_step` over all padded batches in one dispatch.

    Returns:
      `run(state, batches) -> Sums`: batches is {'inputs': (K, B, ...), 'labels': (K, B, ...),
      'mask': (K, B)}.
    """
    eval_step = jax.jit(eval_step, inline=True)  # traced once, as in `resident`

    def run(state, batches):
        def body(sums, batch):
            return metrics.add(sums, eval_step(state, batch)), None

        first = jax.tree.map(lambda array: array[0], batches)
        nothing = metrics.zeros(jax.eval_shape(eval_step, state, first))
        return jax.lax.scan(body, nothing, batches)[0]

    return run
