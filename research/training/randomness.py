"""Make the keys of a run: pure functions of (seed, stream, step)."""

import jax

# Never renumber: a stream's number is part of what a seed means.
INITIALIZATION, DROPOUT, AUGMENTATION = range(3)


def stream_key(seed, stream: int, step=0) -> jax.Array:
    """Return the key of one stream at one step, so that no generator state is stored.

    Args:
      seed: uint32 scalar, may be traced.
      stream: one of the constants of this module.
      step: integer scalar, may be traced.
    """
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), stream), step)
