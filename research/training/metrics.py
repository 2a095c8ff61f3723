"""Hold the metrics of steps and evaluations as sums with weights, which add up exactly."""

from typing import Any

import flax
import jax
import jax.numpy as jnp
import numpy as np

from research import batch_axis
from research.errors import UserError
from research.tasks import Task

# The value of `first_nonfinite_step` if all losses are finite.
NEVER = 2**31 - 1


@flax.struct.dataclass
class Sums:
    """Metrics of some examples.

    Attributes:
      means: {name: (sum, weight)}, arrays of any fixed shapes; 'loss' is always there.
      members: of the members of an ensemble, the same with a first axis (members,); else {}.
    """

    means: dict[str, tuple[Any, Any]]
    members: dict[str, tuple[Any, Any]] = flax.struct.field(default_factory=dict)

    @property
    def loss(self):
        """Return the mean loss."""
        total, weight = self.means["loss"]
        return total / weight


@flax.struct.dataclass
class StepMetrics:
    """Metrics of some steps.

    Attributes:
      sums: of the examples of all steps that were not skipped, before each update.
      examples: their number, int32.
      learning_rate: float32, of the last step's update.
      skipped: the number of steps that `config.on_divergence` left out, int32.
      first_nonfinite_step: the first step, counted from 1, whose loss is not finite; else `NEVER`.
    """

    sums: Sums
    examples: Any
    learning_rate: Any
    skipped: Any
    first_nonfinite_step: Any

    @property
    def loss(self):
        """Return the mean loss."""
        return self.sums.loss


def of_batch(task: Task, outputs, targets, mask, statistics, numbers=None) -> dict:
    """Return {name: (sum, weight)} of a batch: the loss, and the metrics of the task.

    Args:
      task: the task.
      outputs: (B, ...), of any float dtype.
      targets: (B, ...), of `Task.targets`.
      mask: bool (B,), False for padding; None counts all.
      statistics: `state.preprocessing`.
      numbers: the traced hyper-parameters in training, None in evaluation.

    Returns:
      Sums over the batch of all devices that share it by hand (`research.batch_axis`).
    """
    outputs, statistics = outputs.astype(jnp.float32), statistics.get("targets", {})
    losses, weights = task.loss(outputs, targets, statistics, numbers)
    if mask is None:
        mask = jnp.ones(losses.shape, bool)
    if weights is None:
        weights = jnp.ones(losses.shape, jnp.int32)
    total, weight = (jnp.where(mask, x, 0).sum(dtype=x.dtype) for x in (losses, weights))
    sums = {"loss": (total, weight), **task.metrics(outputs, targets, mask, statistics)}
    return batch_axis.total(sums)


def sown(collection: dict) -> dict:
    """Return {name: (sum, weight)} of the values that modules have sown into 'metrics'.

    A name is the module's path and the value's name, 'Dense_0/norm'. The mean is over batches and,
    where a module sows several times, over these.
    """
    leaves = flax.traverse_util.flatten_dict(collection)
    sums = {
        "/".join(path): (sum(map(jnp.asarray, values)), jnp.int32(len(values)))
        for path, values in leaves.items()
    }
    return batch_axis.total(sums)


def with_sown(means: dict, of_modules: dict) -> dict:
    """Return the metrics of a task and those that modules sow.

    Raises:
      UserError: both have a metric of one name.
    """
    if both := sorted(means.keys() & of_modules.keys()):
        raise UserError(
            f"a module sows {both[0]!r} into 'metrics', which the task reports (allowed: another "
            "name)"
        )
    return {**means, **of_modules}


def zeros(like):
    """Return the sums of nothing, for metrics of these shapes."""
    empty = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like)
    if isinstance(like, StepMetrics):
        empty = empty.replace(first_nonfinite_step=jnp.full_like(empty.first_nonfinite_step, NEVER))
    return empty


def add(a: Sums, b: Sums) -> Sums:
    """Return the sums of two parts of a split."""
    return jax.tree.map(lambda x, y: x + y, a, b)


def join(a: StepMetrics, b: StepMetrics, xp=jnp) -> StepMetrics:
    """Return the metrics of two parts of a run, the earlier one first.

    With NumPy as `xp` the result is on the host.
    """
    return StepMetrics(
        sums=add(a.sums, b.sums),
        examples=a.examples + b.examples,
        learning_rate=b.learning_rate,
        skipped=a.skipped + b.skipped,
        first_nonfinite_step=xp.minimum(a.first_nonfinite_step, b.first_nonfinite_step),
    )


def to_json(metrics: StepMetrics) -> dict:
    """Return metrics on the host as JSON values, which `from_json` reads."""
    return jax.tree.map(
        lambda leaf: np.asarray(leaf).tolist(), flax.serialization.to_state_dict(metrics)
    )


def as_saved_now(window: dict) -> dict:
    """Return a window of a checkpoint in today's form.

    Earlier versions, which could only classify, saved sums by the names 'loss', 'correct' and
    'count', with 'member_' before those of members.
    """
    if "metrics" in window:
        return window
    sums = dict(window["sums"])

    def means(prefix: str) -> dict:
        if prefix + "count" not in sums:
            return {}
        loss, correct, count = (sums.pop(prefix + name) for name in ("loss", "correct", "count"))
        return {"loss": {"0": loss, "1": count}, "accuracy": {"0": correct, "1": count}}

    examples = sums["count"]
    groups = {"means": means(""), "members": means("member_")}
    saved = {"sums": groups, "examples": examples, **sums}
    return {"metrics": saved, "seconds": window["seconds"]}


def from_json(saved: dict) -> StepMetrics:
    """Return the metrics that `to_json` wrote: floats are float32, other numbers int32."""

    def means(group: dict) -> dict:
        return {name: (_array(pair["0"]), _array(pair["1"])) for name, pair in group.items()}

    sums = Sums(means(saved["sums"]["means"]), means(saved["sums"]["members"]))
    rest = {name: _array(value) for name, value in saved.items() if name != "sums"}
    return StepMetrics(sums=sums, **rest)


def _array(value) -> np.ndarray:
    array = np.asarray(value)
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int32)


def values(task: Task, sums: Sums) -> dict[str, Any]:
    """Return the reported metrics by name: floats, or nested lists; NaN for no examples.

    For several members, also return 'members': {name: [value of each]} for scalar metrics.
    """
    reported = _finished(task, sums.means)
    if sums.members:
        count = len(sums.members["loss"][0])
        each = [
            _finished(task, jax.tree.map(lambda leaf, m=member: leaf[m], sums.members))
            for member in range(count)
        ]
        reported["members"] = {
            name: [member[name] for member in each]
            for name, value in each[0].items()
            if isinstance(value, float)
        }
    return reported


def _finished(task: Task, means: dict) -> dict[str, Any]:
    reported = {}
    for name, (total, weight) in means.items():
        reported |= task.finish(name, np.asarray(total), np.asarray(weight))
    return reported
