"""Lane modes by name: how many lanes of a population go through each operation together.

Each gives the sizes of a chunk that are worth a trial, for so many lanes on a device, the one that
compiles fastest first; where there are several, the population measures them on its own program and
takes the fastest, as far as that pays (`Population.compile`).
"""

import jax

_CHUNK = 8


def sequential(lanes: int) -> tuple[int, ...]:
    """One lane after the other, by the program that `research.main` runs."""
    return (1,)


def vmap(lanes: int) -> tuple[int, ...]:
    """All lanes at once."""
    return (lanes,)


def chunked(lanes: int) -> tuple[int, ...]:
    """Run some lanes at once: what they read and write stays in the cache of a core."""
    return (min(lanes, _CHUNK),)


def auto(lanes: int) -> tuple[int, ...]:
    """Run the fastest of these. On CPU all at once is not among them: it has never won there."""
    sizes = {1, min(lanes, _CHUNK)}
    return tuple(sorted(sizes if jax.default_backend() == "cpu" else sizes | {lanes}))
