"""Define the one train step and the one evaluation step; executors decide how they run."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from research import batch_axis, models, optimizers
from research.data import augmentation, mixing
from research.data.feed import preprocess
from research.models import leaves
from research.names import bind, resolve
from research.optimizers.constraints import max_norm
from research.optimizers.multipliers import frozen_statistics, never_trained, trained_now
from research.optimizers.sharpness import sharpness_aware
from research.tasks import Task
from research.training import averages, metrics
from research.training.divergence import skip_unless_finite
from research.training.metrics import NEVER, StepMetrics, Sums
from research.training.microbatches import over_batch
from research.training.penalty import penalty
from research.training.randomness import AUGMENTATION, DROPOUT, stream_key
from research.training.state import TrainState

_MIXING = 2**16  # the number of its random stream, after those of the augmentations


def make_train_step(config: ConfigDict, task: Task) -> Callable:
    """Return the pure function `train_step(state, batch) -> (state, metrics)` of a config.

    `batch` is {'inputs': (B, ...) raw, 'labels': (B, ...)}, and if an augmentation asks for them
    'indices' and 'epochs', int (B,), of its examples. `metrics` are `StepMetrics` from before the
    update. The function may be jitted, scanned, vmapped over states and sharded over batches.
    Inside `shard_map` and `pmap` each device gets the whole batch: all augment it, by the same
    draws, because mixing needs other examples. Each takes its part of the result to the model.
    """

    def train_step(state: TrainState, batch) -> tuple[TrainState, StepMetrics]:
        numbers = state.hyperparameters
        still = frozen_statistics(config, numbers, state.params, state.batch_stats, state.step)
        model = models.build(config, numbers, task.outputs, still)
        with leaves.stated_by(model):
            return updated(model, state, batch)

    def updated(model, state: TrainState, batch) -> tuple[TrainState, StepMetrics]:
        numbers = state.hyperparameters
        inputs = _augment(config, state, batch)
        inputs = preprocess(state.preprocessing, inputs)
        targets = task.targets(batch["labels"], state.preprocessing.get("targets", {}))
        targets = task.training_targets(targets, numbers)
        inputs, targets = batch_axis.part(_mix(config, state, inputs, targets))
        inputs = _in_dtype(config, inputs)

        fixed = never_trained(config, numbers, state.params)

        def objective(params, collections, batch, key):
            inputs, targets = batch
            params = jax.tree.map(
                lambda param, fixed: jax.lax.stop_gradient(param) if fixed else param,
                batch_axis.shared(params),
                fixed,
            )
            outputs, updates = model.apply(
                {"params": params, **collections},
                inputs,
                train=True,
                rngs={"dropout": key},
                mutable=[*collections, "batch_stats", "metrics"],
            )
            means = metrics.of_batch(task, outputs, targets, None, state.preprocessing, numbers)
            total, weight = means["loss"]
            # If all examples have weight 0, such as padding, the mean is 0.
            mean = total / jnp.where(weight > 0, weight, 1)
            value = mean + penalty(config, numbers, params)
            means["loss"] = (value * weight, weight)
            means = metrics.with_sown(means, metrics.sown(updates.pop("metrics", {})))
            return value, (Sums(means), {**collections, **updates})

        key = stream_key(numbers["seed"], DROPOUT, state.step)
        gradient, value = over_batch(
            objective, (inputs, targets), key, config.compute.microbatches, task.weighted
        )
        if config.optimizer.sam_radius:
            trained = trained_now(config, numbers, state.params, state.step)
            gradient = sharpness_aware(gradient, numbers["optimizer"]["sam_radius"], trained)
        before = state.collections
        gradients, (sums, collections) = gradient(state.params, before)
        optimizer = optimizers.build(config, numbers, state.step)
        updates, opt_state = optimizer.update(
            gradients,
            state.opt_state,
            state.params,
            value=sums.loss,
            grad=gradients,
            value_fn=lambda params: value(params, before),
        )
        params = optax.apply_updates(state.params, updates)
        if config.optimizer.max_norm:
            trained = trained_now(config, numbers, params, state.step)
            shortened = max_norm(params, numbers["optimizer"]["max_norm"])
            params = jax.tree.map(jnp.where, trained, shortened, params)
        after = state.with_collections(collections).replace(
            step=state.step + 1, params=params, opt_state=opt_state
        )
        after = after.replace(averages=averages.updated(config, state, params, after.batch_stats))
        step_metrics = StepMetrics(
            sums=sums,
            examples=jnp.int32(len(batch["inputs"])),
            learning_rate=optimizers.learning_rate(config, numbers, state.step, opt_state),
            skipped=jnp.int32(0),
            first_nonfinite_step=jnp.where(jnp.isfinite(sums.means["loss"][0]), NEVER, after.step),
        )
        if config.on_divergence == "skip_step":
            return skip_unless_finite(gradients, state, after, step_metrics)
        return after, step_metrics

    return train_step


def make_forward(config: ConfigDict, task: Task) -> Callable:
    """Return the pure function `forward(state, inputs) -> (outputs, sown)` of evaluation.

    `outputs` are float32 (B, ...), by running statistics; `sown` are the metrics that modules sow,
    {name: (sum, weight)}.
    """

    def forward(state: TrainState, inputs) -> tuple[jax.Array, dict]:
        model = models.build(config, state.hyperparameters, task.outputs)
        inputs = model_inputs(config, state, inputs)
        outputs, updates = model.apply(
            {"params": state.params, **state.collections}, inputs, train=False, mutable=["metrics"]
        )
        return outputs.astype(jnp.float32), metrics.sown(updates.get("metrics", {}))

    return forward


def make_predict(config: ConfigDict, task: Task) -> Callable:
    """Return the pure function `predict(state, inputs) -> outputs (B, ...)`.

    Outputs are float32, in the unit of the user's targets.
    """
    forward = make_forward(config, task)

    def predict(state: TrainState, inputs) -> jax.Array:
        outputs, _ = forward(state, inputs)
        return task.natural(outputs, state.preprocessing.get("targets", {}))

    return predict


def make_eval_step(config: ConfigDict, task: Task) -> Callable:
    """Return the pure function `eval_step(state, batch) -> Sums` over the unmasked examples.

    `batch` is {'inputs', 'labels', 'mask': bool (B,)}. The loss has no smoothing, no weights of
    classes and no penalties, so that it compares between runs.
    """
    forward = make_forward(config, task)

    def eval_step(state: TrainState, batch) -> Sums:
        outputs, sown = forward(state, batch["inputs"])
        targets = task.targets(batch["labels"], state.preprocessing.get("targets", {}))
        means = metrics.of_batch(task, outputs, targets, batch["mask"], state.preprocessing)
        return Sums(metrics.with_sown(means, sown))

    return eval_step


def model_inputs(config: ConfigDict, state: TrainState, inputs: jax.Array) -> jax.Array:
    """Return what the model gets of raw inputs in evaluation."""
    return _in_dtype(config, preprocess(state.preprocessing, inputs))


def _in_dtype(config: ConfigDict, inputs: jax.Array) -> jax.Array:
    """Return float inputs in the dtype of the computation; token ids stay integers."""
    return inputs.astype(config.compute.dtype) if inputs.dtype == jnp.float32 else inputs


def _augment(config: ConfigDict, state: TrainState, batch) -> jax.Array:
    inputs, known = batch["inputs"], {"seed": state.hyperparameters["seed"], **batch}
    known["value_range"] = _value_range(inputs, state.preprocessing)
    for number, name in enumerate(config.augmentation.names):
        function = _of_augmentation(config, state, "names", name, augmentation, known)
        inputs = function(_augmentation_key(state, number), inputs)
    return inputs


def _value_range(images, statistics):
    """Return the least and the largest value of the inputs, by channel if it was measured.

    It is None for images of older checkpoints: augmentation assumes 0 to 1, and cuts nothing off.
    """
    if images.dtype == jnp.uint8:
        return 0.0, 255.0
    return (statistics["low"], statistics["high"]) if "low" in statistics else None


def _mix(config: ConfigDict, state: TrainState, inputs, targets):
    function = _of_augmentation(config, state, "mixing", config.augmentation.mixing, mixing, {})
    return function(_augmentation_key(state, _MIXING), inputs, targets)


def _of_augmentation(config, state, key, name, module, known):
    function = resolve(f"config.augmentation.{key}", name, module)
    traced = state.hyperparameters["augmentation"]
    return bind(function, config.augmentation, {**known, **traced})


def _augmentation_key(state: TrainState, number: int) -> jax.Array:
    key = stream_key(state.hyperparameters["seed"], AUGMENTATION, state.step)
    return jax.random.fold_in(key, jnp.uint32(number))
