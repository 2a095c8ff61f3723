"""Lane modes by name: how many lanes of a search one call of a program trains together.

A lane mode maps the number of lanes on a device to the chunk sizes worth trying, the size that
compiles fastest first. If there are several, the population times them on its own program and
keeps the fastest, unless their compilation would take longer than it can save.
"""

import jax

_CHUNK = 8


def sequential(lanes: int) -> tuple[int, ...]:
    """Train one lane after the other, by the program that `research.main` runs."""
    return (1,)


def vmap(lanes: int) -> tuple[int, ...]:
    """Train all lanes at once."""
    return (lanes,)


def chunked(lanes: int) -> tuple[int, ...]:
    """Train eight lanes at once: their data stay in the cache of a core."""
    return (min(lanes, _CHUNK),)


def auto(lanes: int) -> tuple[int, ...]:
    """Measure these and take the fastest; on CPU not `vmap`, which was never the fastest there."""
    sizes = {1, min(lanes, _CHUNK)}
    return tuple(sorted(sizes if jax.default_backend() == "cpu" else sizes | {lanes}))
