"""Estimate time and memory of a function, and of a population, from shapes without compiling.

The compiler fuses and reorders operations: memory may be off by a factor of 2, time by 10.
"""

import dataclasses
import functools
import math
import os
import time
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Var

from research.tuning import lane
from research.tuning.lane import TrialLanes

_SIDE = 512  # of the square matrices whose product is timed
_NUMBERS = 2**20  # length of the vectors whose sum is timed


@dataclasses.dataclass(frozen=True)
class Cost:
    """The cost of one call of a function."""

    products: float  # operations of matrix products and convolutions; a multiply-add counts as 2
    numbers: float  # output elements of all other operations
    memory: int  # peak bytes of live values, without the arguments

    def seconds(self) -> float:
        """Return the time on all local devices at measured speeds; small arrays take longer."""
        products, numbers = speeds()
        return self.products / products + self.numbers / numbers


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The estimated cost of a population before it is compiled."""

    memory: int  # estimate of `Population.memory`, bytes
    seconds: float  # estimate of `Population.seconds`


class LaneCosts:
    """The estimated cost of a segment of a trial's lanes.

    Args:
      lanes: of a trial.
    """

    def __init__(self, lanes: TrialLanes):
        self._lanes = lanes

    @functools.cached_property
    def _costs(self) -> tuple[Cost, Cost]:
        """Return the costs of one training step and of one evaluation, for one lane."""
        state, folds, number = self._lanes.state, self._lanes.folds, np.int32(0)
        train, judge = lane.make_train(folds), lane.make_judge(folds)
        _, metrics = jax.eval_shape(train, state, number, folds.arrays, number)
        return (
            cost(train, state, number, folds.arrays, number),
            cost(judge, state, metrics, number, folds.arrays),
        )

    def seconds(self) -> float:
        """Return the time of a segment of one trial on all devices."""
        step, verdict = self._costs
        steps = self._lanes.ends(self._lanes.segments)[-1] / self._lanes.segments
        return len(self._lanes) * (step.seconds() * steps + verdict.seconds())

    def memory(self, trials: int, modes: Callable[[int], tuple[int, ...]]) -> int:
        """Return the bytes of states, data and temporaries for trials trained side by side.

        Args:
          trials: number of trials.
          modes: a function of `tuning/lane_modes.py`; its largest chunk counts.
        """
        devices = jax.local_device_count()
        lanes = -(-trials * len(self._lanes) // devices)  # on each device
        size = max(modes(lanes))
        chunks = -(-lanes // size)
        at_once = min(chunks, os.cpu_count() if jax.default_backend() == "cpu" else 1)
        temporary = max(cost.memory for cost in self._costs)
        state, data = bytes_of(self._lanes.state), bytes_of(self._lanes.folds.arrays)
        return devices * (chunks * size * state + data + at_once * size * temporary)


def bytes_of(tree) -> int:
    """Return the bytes of all arrays, or of their shapes."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def cost(function: Callable, *arguments) -> Cost:
    """Return the cost of a function of arrays or shapes; an unbounded loop counts as one turn."""
    return _cost(jax.make_jaxpr(function)(*arguments).jaxpr)


@functools.cache
def speeds() -> tuple[float, float]:
    """Measure operations per second of a matrix product, and elements per second of a sum."""
    matrix, numbers = jnp.ones((_SIDE, _SIDE)), jnp.ones(_NUMBERS)
    # Several CPU devices share the same cores.
    devices = 1 if jax.default_backend() == "cpu" else jax.local_device_count()
    product, total = _seconds(jnp.matmul, matrix, matrix), _seconds(jnp.add, numbers, numbers)
    return devices * 2 * _SIDE**3 / product, devices * _NUMBERS / total


def _seconds(function: Callable, *arguments) -> float:
    jitted, times = jax.jit(function), []
    for _ in range(20):  # the first call compiles; other processes may delay some
        started = time.perf_counter()
        jitted(*arguments).block_until_ready()
        times.append(time.perf_counter() - started)
    return min(times)


def _cost(jaxpr: Jaxpr) -> Cost:
    """Add up the equations; a value lives from the one that makes it to the last that reads it."""
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
                living.pop(value, None)  # arguments are not in `living`
    return Cost(*work, most)


def _memory(equation, results: int, inner: list[Cost]) -> int:
    """Return the bytes that an equation adds to the live values."""
    bodies = max((body.memory for body in inner), default=0)
    # A loop stacks its results beside the memory of one turn; otherwise the body makes the results.
    return results + bodies if equation.primitive.name == "scan" else max(results, bodies)


def _work(equation, inner: list[Cost]) -> tuple[float, float]:
    """Return the operations of products, and the elements of all other results."""
    name, parameters = equation.primitive.name, equation.params
    if inner:
        if name == "cond":
            inner = [max(inner, key=lambda body: body.products + body.numbers)]
        turns = parameters["length"] if name == "scan" else 1
        return (
            turns * sum(body.products for body in inner),
            turns * sum(body.numbers for body in inner),
        )
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
    """Yield the bodies of loops, branches and calls."""
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
