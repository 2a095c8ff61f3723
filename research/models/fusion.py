"""Limit XLA's fusion, so that CPU programs do not compute the same thing twice.

XLA:CPU fuses every elementwise producer into each of its consumers. A consumer that reads it slowly
(a transpose, a reduction) then recomputes the producer's whole chain, back to the last convolution:
half of a ResNet's step went there. `lax.optimization_barrier` alone does not help, as it is removed
before fusion; but the predicate of a conditional behind a barrier is not known to the compiler in
time, and what enters a conditional must lie in memory.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


def apart(function: Callable, *operands):
    """Return `function(*operands)`, compiled on CPU without fusing it with the operands' producers.

    The operands are written to memory once, whatever `function` does with them. Other platforms
    fuse well, and get the plain call.

    Args:
      function: arrays -> pytree of arrays.
      *operands: arrays; may be batched by `jax.vmap`.
    """
    never = jax.tree.map(
        lambda out: lambda: jnp.zeros(out.shape, out.dtype), jax.eval_shape(function, *operands)
    )

    def bounded(*operands):
        return lax.cond(
            lax.optimization_barrier(True),
            function,
            lambda *_: jax.tree.map(lambda zeros: zeros(), never),
            *operands,
        )

    return lax.platform_dependent(*operands, cpu=bounded, default=function)
