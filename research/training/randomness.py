"""All randomness of a run: keys that are pure functions of (seed, stream, step)."""

import jax

# Never renumber: a stream's number is part of what a seed means.
INITIALIZATION, DROPOUT, AUGMENTATION = range(3)


def stream_key(seed, stream: int, step=0) -> jax.Array:
    """The key of one stream at one step: nothing to carry, store or restore.

    Args:
      seed: uint32 scalar, may be traced.
      stream: one of the constants of this module.
      step: integer scalar, may be traced.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)
