"""Executors: how the one step is run many times per call of a compiled program."""

from collections.abc import Callable

import jax
import jax.numpy as jnp

from research.data.shuffle import batch_epochs, batch_indices

# In the metrics of a dispatch: no step had a loss that is not finite.
NEVER = 2**31 - 1
_ZERO_SUMS = {"loss": 0.0, "correct": 0, "count": 0}


def resident(
    train_step: Callable, batch_size: int, place: Callable = lambda rows: rows
) -> Callable:
    """Runs n steps in one dispatch over data that live on the device.

    The batch of a step is gathered by `batch_indices(seed, step)`. The number of steps is a traced
    argument, so that one compilation serves dispatches of every length.

    Args:
      train_step: of `training/step.py`.
      batch_size: examples in a batch.
      place: may tell the compiler where the indices of a batch, and so its rows, lie.

    Returns:
      `run(state, data, steps) -> (state, metrics)`: data is {'inputs': (N, ...), 'labels': (N,)},
      and where only some of them are for training, 'rows': int32 (n,), their numbers, of which the
      first 'examples' count, an int32 scalar: the run is that over those alone. Metrics are the
      step's sums added up, 'learning_rate' of the last step, and 'first_nonfinite_step' (`NEVER`
      where there is none), counted from 1.
    """

    def run(state, data, steps):
        rows = data.get("rows")
        examples = len(data["labels"]) if rows is None else data["examples"]
        most = None if rows is None else len(rows)

        def body(_, carry):
            state, metrics = carry
            seed = state.hyperparameters["seed"]
            indices = place(batch_indices(seed, state.step, batch_size, examples, most))
            taken = indices if rows is None else rows[indices]
            batch = {name: data[name][taken] for name in ("inputs", "labels")}
            epochs = batch_epochs(state.step, batch_size, examples)
            batch |= {"indices": indices, "epochs": epochs}  # no code where nothing reads them
            state, sums = train_step(state, batch)
            return state, add(metrics, with_finite_check(sums, state.step))

        return jax.lax.fori_loop(0, steps, body, (state, no_metrics()))

    return run


def streamed(train_step: Callable) -> Callable:
    """Runs one step on a batch that came from outside.

    Returns:
      `run(state, metrics, batch) -> (state, metrics)`, the step's metrics joined to those given.
    """

    def run(state, metrics, batch):
        state, sums = train_step(state, batch)
        return state, add(metrics, with_finite_check(sums, state.step))

    return run


def no_metrics() -> dict:
    """The metrics of no step at all, to which others are added."""
    zero = {**_ZERO_SUMS, "skipped": 0, "learning_rate": 0.0, "first_nonfinite_step": NEVER}
    return jax.tree.map(jnp.asarray, zero)


def evaluator(eval_step: Callable) -> Callable:
    """Adds up `eval_step` over all padded batches in one dispatch.

    Returns:
      `run(state, batches) -> metrics`: batches is {'inputs': (K, B, ...), 'labels': (K, B),
      'mask': (K, B)}.
    """

    def run(state, batches):
        def body(metrics, batch):
            return jax.tree.map(jnp.add, metrics, eval_step(state, batch)), None

        first = jax.tree.map(lambda array: array[0], batches)
        shapes = jax.eval_shape(eval_step, state, first)
        zeros = jax.tree.map(lambda sums: jnp.zeros(sums.shape, sums.dtype), shapes)
        return jax.lax.scan(body, zeros, batches)[0]

    return run


def with_finite_check(sums: dict, step) -> dict:
    """Adds 'first_nonfinite_step': this step where its loss is not finite, else `NEVER`."""
    return {**sums, "first_nonfinite_step": jnp.where(jnp.isfinite(sums["loss"]), NEVER, step)}


def add(a: dict, b: dict, xp=jnp) -> dict:
    """Joins the metrics of two parts of a run, the earlier one first; with NumPy, on the host."""
    # Where that is not a sum.
    joins = {"first_nonfinite_step": xp.minimum, "learning_rate": lambda earlier, later: later}
    return {name: joins.get(name, xp.add)(a[name], b[name]) for name in a}
