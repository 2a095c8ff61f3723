"""The one train step and the one evaluation step; executors decide how they are run."""

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
from research.training import averages, loss
from research.training.divergence import skip_unless_finite
from research.training.microbatches import over_batch
from research.training.randomness import AUGMENTATION, DROPOUT, stream_key
from research.training.state import TrainState

_MIXING = 2**16  # its number among the augmentations: after all of them


def make_train_step(config: ConfigDict, classes: int) -> Callable:
    """The pure function `train_step(state, batch) -> (state, metrics)` of a config.

    `batch` is {'inputs': (B, ...) raw, 'labels': int (B,)}, and where an augmentation asks for them
    'indices' and 'epochs', int (B,), of its examples; `metrics` are sums over the batch
    ({'loss', 'correct', 'count'}), taken before the update, the 'learning_rate' of the update, and
    'skipped', 1 where `config.on_divergence` left it out.
    It may be jitted, scanned, vmapped over states and sharded over batches. Inside `shard_map` and
    `pmap` each device is given the whole batch: all augment it, by the same draws, as what mixes
    examples must; each takes its part to the model.
    """

    def train_step(state: TrainState, batch) -> tuple[TrainState, dict]:
        numbers = state.hyperparameters
        still = frozen_statistics(config, numbers, state.params, state.batch_stats, state.step)
        model = models.build(config, numbers, classes, still)
        with leaves.stated_by(model):
            return updated(model, state, batch)

    def updated(model, state: TrainState, batch) -> tuple[TrainState, dict]:
        numbers = state.hyperparameters
        inputs = _augment(config, state, batch)
        inputs = preprocess(state.preprocessing, inputs)
        targets = loss.smoothed_targets(config, numbers, batch["labels"], classes)
        inputs, targets = batch_axis.part(_mix(config, state, inputs, targets))
        inputs = inputs.astype(config.compute.dtype)

        fixed = never_trained(config, numbers, state.params)

        def objective(params, batch_stats, batch, key):
            inputs, targets = batch
            params = jax.tree.map(
                lambda param, fixed: jax.lax.stop_gradient(param) if fixed else param,
                batch_axis.shared(params),
                fixed,
            )
            logits, updates = model.apply(
                {"params": params, "batch_stats": batch_stats},
                inputs,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            sums = loss.sums(logits, targets)
            value = sums["loss"] / sums["count"] + loss.penalty(config, numbers, params)
            sums["loss"] = value * sums["count"]
            return value, (sums, updates.get("batch_stats", {}))

        key = stream_key(numbers["seed"], DROPOUT, state.step)
        gradient, value = over_batch(objective, (inputs, targets), key, config.compute.microbatches)
        if config.optimizer.sam_radius:
            trained = trained_now(config, numbers, state.params, state.step)
            gradient = sharpness_aware(gradient, numbers["optimizer"]["sam_radius"], trained)
        gradients, (metrics, batch_stats) = gradient(state.params, state.batch_stats)
        optimizer = optimizers.build(config, numbers, state.step)
        updates, opt_state = optimizer.update(
            gradients,
            state.opt_state,
            state.params,
            value=metrics["loss"] / metrics["count"],
            grad=gradients,
            value_fn=lambda params: value(params, state.batch_stats),
        )
        metrics["learning_rate"] = optimizers.learning_rate(config, numbers, state.step, opt_state)
        params = optax.apply_updates(state.params, updates)
        if config.optimizer.max_norm:
            trained = trained_now(config, numbers, params, state.step)
            shortened = max_norm(params, numbers["optimizer"]["max_norm"])
            params = jax.tree.map(jnp.where, trained, shortened, params)
        after = state.replace(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            averages=averages.updated(config, state, params, batch_stats),
        )
        metrics["skipped"] = jnp.int32(0)
        if config.on_divergence == "skip_step":
            return skip_unless_finite(gradients, state, after, metrics)
        return after, metrics

    return train_step


def make_predict(config: ConfigDict, classes: int) -> Callable:
    """The pure function `predict(state, inputs) -> logits (B, classes)`, by running statistics."""

    def predict(state: TrainState, inputs) -> jax.Array:
        model = models.build(config, state.hyperparameters, classes)
        variables = {"params": state.params, "batch_stats": state.batch_stats}
        inputs = preprocess(state.preprocessing, inputs).astype(config.compute.dtype)
        return model.apply(variables, inputs, train=False).astype(jnp.float32)

    return predict


def make_eval_step(config: ConfigDict, classes: int) -> Callable:
    """The pure function `eval_step(state, batch) -> metrics`: sums over the unmasked examples.

    `batch` is {'inputs', 'labels', 'mask': bool (B,)}; the loss is the plain cross-entropy, without
    smoothing or penalties, so that it compares between runs.
    """
    predict = make_predict(config, classes)

    def eval_step(state: TrainState, batch) -> dict:
        logits = predict(state, batch["inputs"])
        return loss.sums(logits, jax.nn.one_hot(batch["labels"], classes), batch["mask"])

    return eval_step


def _augment(config: ConfigDict, state: TrainState, batch) -> jax.Array:
    inputs, known = batch["inputs"], {"seed": state.hyperparameters["seed"], **batch}
    known["value_range"] = _value_range(inputs, state.preprocessing)
    for number, name in enumerate(config.augmentation.names):
        function = _of_augmentation(config, state, "names", name, augmentation, known)
        inputs = function(_augmentation_key(state, number), inputs)
    return inputs


def _value_range(images, statistics):
    """Return the least and the largest value of the inputs, of each channel where it was measured.

    None for images of a checkpoint from before that: they are taken for 0 to 1, and not cut off.
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
