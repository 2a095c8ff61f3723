"""Gradient clipping: by value, by global norm, by each unit's weights."""

import optax
from ml_collections import ConfigDict


def clipped(config: ConfigDict, numbers) -> optax.GradientTransformation:
    """What is not 0 in `config.optimizer`, in this order; no state, whatever is on or off.

    - `clip_value`: each number to at most that size.
    - `clip_norm`: all gradients together to at most that length (Pascanu et al., 2013, alg. 1).
    - `clip_adaptive`: each unit's to at most that share of the length of its weights, or of 0.001
      (Brock et al., 2021, eq. 3); the head's too, which they leave alone.
    """
    kinds = {
        "clip_value": optax.clip,
        "clip_norm": optax.clip_by_global_norm,
        "clip_adaptive": optax.adaptive_grad_clip,
    }
    on = [kind(numbers[name]) for name, kind in kinds.items() if config.optimizer[name]]

    def update(updates, params):
        for transformation in on:
            updates, _ = transformation.update(updates, transformation.init(params), params)
        return updates

    return optax.stateless(update)
