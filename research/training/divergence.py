"""Detect numbers that are not finite, and keep them out of the state."""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from research.training.metrics import NEVER, StepMetrics
from research.training.state import TrainState

_NOT_METRICS = ("split", "epoch", "seconds", "examples_per_second", "learning_rate", "members")


def all_finite(tree) -> jax.Array:
    """Return whether every number in every float leaf is finite: bool scalar."""
    leaves = [leaf for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.inexact)]
    return jnp.stack([jnp.bool_(True), *(jnp.isfinite(leaf).all() for leaf in leaves)]).all()


def healthy(state: TrainState) -> jax.Array:
    """Return whether all that training changes is finite: bool scalar.

    A gradient that is not finite stays in the parameters or in the optimiser's moments. So it is
    enough to check once a dispatch, and a single step needs no check.
    """
    # Scalars of an optimiser may be infinite, such as the result of a line search.
    single = jnp.ndim(state.hyperparameters["seed"])
    moments = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.ndim > single]
    return all_finite((state.params, state.collections, moments))


def slowed(state: TrainState, rollbacks: int) -> TrainState:
    """Return the state with its learning rate halved once for each rollback."""
    numbers = state.hyperparameters
    rate = numbers["optimizer"]["learning_rate"] * 0.5**rollbacks
    optimizer = {**numbers["optimizer"], "learning_rate": rate}
    return state.replace(hyperparameters={**numbers, "optimizer": optimizer})


def skip_unless_finite(
    gradients, before: TrainState, after: TrainState, metrics: StepMetrics
) -> tuple[TrainState, StepMetrics]:
    """Leave a step out, but for its number, if its loss or its gradients are not finite.

    Returns:
      The state, and metrics in which such a step only counts as skipped.
    """
    finite = all_finite((gradients, metrics.sums.means["loss"][0]))
    kept = jax.tree.map(lambda new, old: jnp.where(finite, new, old), after, before)
    metrics = metrics.replace(
        sums=jax.tree.map(lambda of_step: jnp.where(finite, of_step, 0), metrics.sums),
        examples=jnp.where(finite, metrics.examples, 0),
        skipped=(~finite).astype(jnp.int32),
        first_nonfinite_step=jnp.int32(NEVER),
    )
    # Members of an ensemble share these.
    return kept.replace(step=after.step, preprocessing=after.preprocessing), metrics


def last_finite(records: Sequence[dict], step: int) -> dict[str, dict]:
    """Return the last record of `metrics.jsonl` up to a step whose loss is finite, by split.

    Returns:
      {'train': {'step': ..., 'loss': ..., other metrics by name}, ...}.
    """

    def is_finite(record: dict) -> bool:
        loss = record.get("loss")  # None: of JSON, which has no NaN
        return loss is not None and math.isfinite(loss)

    return {
        record["split"]: {name: record[name] for name in record if name not in _NOT_METRICS}
        for record in records
        if record["step"] <= step and is_finite(record)
    }
