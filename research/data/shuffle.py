"""Order the examples by a pure function of (seed, step), with nothing to store or restore.

Training reads an endless sequence of epochs, each a new permutation of the training examples. Step
k takes positions k * batch_size ... (k + 1) * batch_size - 1 of that sequence. So a batch may end
one epoch and begin the next, and no example is dropped.
"""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

# The largest number of examples one run may see: positions are uint32.
MAX_POSITIONS = 2**32 - 1
_UNROLL = 8  # rounds in each turn of the loop on CPU; divides their number


def batch_indices(
    seed, step, batch_size: int, examples: int | jax.Array, most: int | None = None
) -> jax.Array:
    """Return the indices of the examples in the batch of a step.

    Args:
      seed: uint32 scalar, may be traced.
      step: integer scalar, may be traced; `(step + 1) * batch_size <= MAX_POSITIONS`.
      batch_size: number of indices to return.
      examples: number of training examples; may be traced if `most` is given.
      most: an upper bound of `examples`; it does not change the result.

    Returns:
      int32 (batch_size,), each in [0, examples). Each example occurs once in an epoch.
    """
    positions, n = _positions(step, batch_size), jnp.asarray(examples, jnp.uint32)
    return permute(positions % n, positions // n, seed, examples, most).astype(jnp.int32)


def batch_epochs(step, batch_size: int, examples: int | jax.Array) -> jax.Array:
    """Return the epoch, from 0, of each example in the batch of a step: int32 (batch_size,)."""
    return (_positions(step, batch_size) // jnp.asarray(examples, jnp.uint32)).astype(jnp.int32)


def coins(seed, indices) -> jax.Array:
    """Draw 0 or 1 with equal probability for each example, constant through a run.

    Args:
      seed: uint32 scalar, may be traced.
      indices: int (B,), indices of training examples.
    """
    key = _mix(jnp.asarray(seed, jnp.uint32) ^ jnp.uint32(0x7F4A7C15))
    return (_mix(_mix(key + jnp.asarray(indices, jnp.uint32)) ^ key) >> 31).astype(jnp.int32)


def permute(index, epoch, seed, examples: int | jax.Array, most: int | None = None) -> jax.Array:
    """Apply the permutation of 0 ... examples - 1 of (seed, epoch), elementwise.

    This is the swap-or-not shuffle (Hoang, Morris and Rogaway, CRYPTO 2012, Figure 1). Round r
    pairs each x with K_r - x (mod n); a hash of the pair's larger member decides whether to swap.
    The shuffle works for any n, without a table and without rejection. The bound in the paper needs
    a multiple of log2(n) rounds; 4 * log2(n), at least 32, passes this project's uniformity tests.

    Args:
      index: uint32 array of positions in the epoch, each < examples.
      epoch: uint32 array, broadcastable to index.
      seed: uint32 scalar.
      examples: size of the permuted set; may be traced if `most` is given.
      most: an upper bound of `examples`. It decides the number of rounds in the program; `examples`
        decides how many of them take effect.
    """
    rounds = _rounds(most or examples)
    counted = _traced_rounds(examples) if most else rounds
    key = _mix(_mix(jnp.asarray(seed, jnp.uint32) ^ jnp.uint32(0x9E3779B9)) + epoch)
    n = jnp.asarray(examples, jnp.uint32)

    def one_round(number, x):
        round_key = _mix(key + (2 * jnp.asarray(number, jnp.uint32) + 1) * jnp.uint32(0x85EBCA6B))
        # The high half of a 32 x 32 bit product maps a hash to [0, n) without a division.
        pivot = _scale(round_key, n)
        partner = jnp.where(pivot >= x, pivot - x, pivot + n - x)
        swap = _mix(jnp.maximum(x, partner) ^ _mix(round_key + jnp.uint32(1))) >> 31 == 1
        if most:
            swap &= number < counted
        return jnp.where(swap, partner, x)

    def all_rounds(x, unroll):
        return lax.fori_loop(0, rounds, one_round, x, unroll=unroll)

    # On CPU a loop is as fast, compiles in a fifth of the time, and stores its result in memory.
    # XLA fuses unrolled rounds into the gather that uses them, and computes them for each pixel.
    # Accelerators would launch kernels for each turn of a loop; there the barrier ends the fusion.
    return lax.platform_dependent(
        jnp.asarray(index, jnp.uint32),
        cpu=functools.partial(all_rounds, unroll=_UNROLL),
        default=lambda x: lax.optimization_barrier(all_rounds(x, unroll=rounds)),
    )


def _rounds(examples: int) -> int:
    return max(32, _UNROLL * math.ceil(4 / _UNROLL * math.log2(max(examples, 2))))


def _traced_rounds(examples: jax.Array) -> jax.Array:
    """Compute `_rounds` in integers: one turn of the loop for each power of 4 below `examples`."""
    powers = np.uint32(4) ** np.arange(16, dtype=np.uint32)
    turns = (jnp.asarray(examples, jnp.uint32) > powers).sum(dtype=jnp.int32)
    return jnp.maximum(32, _UNROLL * turns)


def _positions(step, batch_size: int):
    """Return the positions of a batch in the sequence of epochs: uint32 (batch_size,)."""
    start = jnp.asarray(step, jnp.uint32) * jnp.uint32(batch_size)
    return start + jnp.arange(batch_size, dtype=jnp.uint32)


def _mix(x):
    """Hash uint32 bijectively (the xor-shift-multiply finaliser "lowbias32" by Wellons)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _scale(x, n):
    """Return floor(x * n / 2**32) in uint32 arithmetic, from 16-bit halves of x and n."""
    low, high = x & 0xFFFF, x >> 16
    n_low, n_high = n & 0xFFFF, n >> 16
    middle = (low * n_low >> 16) + (high * n_low & 0xFFFF) + (low * n_high & 0xFFFF)
    return high * n_high + (high * n_low >> 16) + (low * n_high >> 16) + (middle >> 16)
