"""Clip gradients by value, by global norm, or by each unit's weights."""

import jax
import optax
from ml_collections import ConfigDict

from research.models import leaves


def clipped(config: ConfigDict, numbers) -> optax.GradientTransformation:
    """Apply the clipping numbers of `config.optimizer` that are not 0, in this order, statelessly.

    - `clip_value`: limits the size of each number.
    - `clip_norm`: limits the length of all gradients together (Pascanu et al., 2013, alg. 1).
    - `clip_adaptive`: limits the length of each unit's gradient to this share of the length of its
      weights, or of 0.001 (Brock et al., 2021, eq. 3). It includes the head, unlike the paper.
    """
    kinds = {
        "clip_value": optax.clip,
        "clip_norm": optax.clip_by_global_norm,
        "clip_adaptive": _adaptive,
    }
    on = [kind(numbers[name]) for name, kind in kinds.items() if config.optimizer[name]]

    def update(updates, params):
        for transformation in on:
            updates, _ = transformation.update(updates, transformation.init(params), params)
        return updates

    return optax.stateless(update)


def _adaptive(share) -> optax.GradientTransformation:
    """Clip each unit's gradient by the length of its weights, which lie along the fan-in axes.

    Parameters that are not kernels are clipped by optax's own rule: vectors as a whole.
    """

    def clip(update, param, leaf):
        rule = optax.adaptive_grad_clip(share, axis=leaf.fan_in or None)
        return rule.update(update, optax.EmptyState(), param)[0]

    return optax.stateless(
        lambda updates, params: jax.tree.map(clip, updates, params, leaves.of(params))
    )
