"""What a function will cost, told by its shapes: it is not compiled, so it is known at once.

A compiler fuses operations and orders them anew: memory may be off by a factor of two, time by ten.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Var

_SIDE = 512  # of the matrices whose product is timed
_NUMBERS = 2**20  # that a sum is timed of


@dataclasses.dataclass(frozen=True)
class Cost:
    """Of one call."""

    products: float  # operations of matrix products and convolutions; a multiply-add is two
    numbers: float  # that all else gives
    memory: int  # bytes of all values that live at the same time, but for the arguments

    def seconds(self) -> float:
        """On all local devices, at the speeds measured here; with small arrays it takes longer."""
        products, numbers = speeds()
        return self.products / products + self.numbers / numbers


@dataclasses.dataclass(frozen=True)
class Estimate:
    """What a population will cost, about, told before anything is compiled."""

    memory: int  # bytes, as `Population.memory`
    seconds: float  # as `Population.seconds`


def cost(function: Callable, *arguments) -> Cost:
    """Of a function of arrays or shapes; a loop without a known end counts as one turn."""
    return _cost(jax.make_jaxpr(function)(*arguments).jaxpr)


@functools.cache
def speeds() -> tuple[float, float]:
    """Operations a second of a matrix product, and numbers a second of a sum, measured now."""
    matrix, numbers = jnp.ones((_SIDE, _SIDE)), jnp.ones(_NUMBERS)
    # Devices of a CPU are the same cores.
    devices = 1 if jax.default_backend() == "cpu" else jax.local_device_count()
    product, total = _seconds(jnp.matmul, matrix, matrix), _seconds(jnp.add, numbers, numbers)
    return devices * 2 * _SIDE**3 / product, devices * _NUMBERS / total


def _seconds(function: Callable, *arguments) -> float:
    jitted, found = jax.jit(function), []
    for _ in range(20):  # the first compiles it; others may be disturbed
        started = time.perf_counter()
        jitted(*arguments).block_until_ready()
        found.append(time.perf_counter() - started)
    return min(found)


def _cost(jaxpr: Jaxpr) -> Cost:
    """Return the cost: a value lives from the equation that makes it to the last that reads it."""
    ends: dict[Var, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        ends |= dict.fromkeys(_variables(equation.invars), number)
    ends |= dict.fromkeys(_variables(jaxpr.outvars), len(jaxpr.eqns))
    living: dict[Var, int] = {}
    work, most = (0.0, 0.0), 0
    for number, equation in enumerate(jaxpr.eqns):
        made = {value: _bytes(value) for value in equation.outvars}
        inner = [_cost(body) for body in _bodies(equation)]
        most = max(most, sum(living.values()) + _memory(equation, sum(made.values()), inner))
        work = tuple(map(sum, zip(work, _work(equation, inner), strict=True)))
        living |= {value: size for value, size in made.items() if value in ends}
        for value in _variables(equation.invars):
            if ends[value] == number:
                living.pop(value, None)  # arguments are not there
    return Cost(*work, most)


def _memory(equation, results: int, inner: list[Cost]) -> int:
    """Besides what was there before."""
    bodies = max((of.memory for of in inner), default=0)
    # What a loop gathers lies beside what a turn needs; else results are values of the body.
    return results + bodies if equation.primitive.name == "scan" else max(results, bodies)


def _work(equation, inner: list[Cost]) -> tuple[float, float]:
    """Of products, and of all else."""
    name, parameters = equation.primitive.name, equation.params
    if inner:
        if name == "cond":
            inner = [max(inner, key=lambda of: of.products + of.numbers)]
        turns = parameters["length"] if name == "scan" else 1
        return turns * sum(of.products for of in inner), turns * sum(of.numbers for of in inner)
    size = sum(map(_size, equation.outvars))
    if name == "dot_general":
        shape = equation.invars[0].aval.shape
        (contracted, _), _ = parameters["dimension_numbers"]
        return 2 * size * math.prod(shape[axis] for axis in contracted), 0
    if name == "conv_general_dilated":
        kernel = equation.invars[1].aval.shape
        features = kernel[parameters["dimension_numbers"].rhs_spec[0]]
        return 2 * size * math.prod(kernel) / features, 0
    return 0, size


def _bodies(equation) -> Iterator[Jaxpr]:
    """Of loops, branches, and calls."""
    kinds = (ClosedJaxpr, Jaxpr)
    for value in jax.tree.leaves(equation.params, is_leaf=lambda value: isinstance(value, kinds)):
        if isinstance(value, kinds):
            yield getattr(value, "jaxpr", value)


def _variables(values) -> list[Var]:
    return [value for value in values if isinstance(value, Var)]


def _size(value) -> int:
    return math.prod(getattr(value.aval, "shape", ()))


def _bytes(value) -> int:
    dtype = getattr(value.aval, "dtype", None)
    return _size(value) * dtype.itemsize if dtype is not None else 0
