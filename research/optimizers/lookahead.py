"""Keep slow weights behind the fast ones."""

import jax
import jax.numpy as jnp
import optax


def lookahead(steps: int, share, step) -> optax.GradientTransformation:
    """Move the weights back to slow weights every `steps` updates (Zhang et al., 2019, alg. 1).

    slow <- slow + share (fast - slow); fast <- slow. It must be the last link of a chain, because
    it needs the whole update. Between two such steps the weights are the fast ones. To evaluate the
    slow ones, use durations and intervals that are multiples of `steps`.

    Args:
      steps: number of updates between two moves; 0: no link, and no state.
      share: alpha of the paper, may be traced.
      step: integer scalar, the number of updates made so far.
    """
    if not steps:
        return optax.identity()

    def update(updates, slow, params):
        now = (step + 1) % steps == 0

        def new_slow(slow, param, update):
            return jnp.where(now, slow + share * (param + update - slow), slow)

        slow = jax.tree.map(new_slow, slow, params, updates)
        updates = jax.tree.map(lambda s, p, u: jnp.where(now, s - p, u), slow, params, updates)
        return updates, slow

    return optax.GradientTransformation(lambda params: jax.tree.map(jnp.copy, params), update)
