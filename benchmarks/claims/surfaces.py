"""Small landscapes whose shape is known, and how this project's optimisers move on them."""

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from research import optimizers
from research.config import default_config
from research.training import hyperparameters

_TILT = 0.15  # of the two wells
_DEEP = float(np.roots([1.0, 0.0, -1.0, _TILT]).real.min())  # where the slope is 0


@dataclasses.dataclass(frozen=True)
class Landscape:
    """A function of the plane that is at least 0, and where to start on it."""

    name: str
    height: Callable  # (2,) -> scalar
    start: tuple[float, float]
    minima: Sequence[tuple[float, float]]  # where it is 0
    box: tuple[float, float, float, float]  # to draw: left, right, bottom, top
    noise: float = 0.0  # standard deviation of each number of the gradient


def ravine(w):
    """Curvatures 1 and 50: condition number 50."""
    return (w[0] ** 2 + 50 * w[1] ** 2) / 2


def rosenbrock(w):
    """A curved ravine (Rosenbrock, 1960)."""
    return (1 - w[0]) ** 2 + 100 * (w[1] - w[0] ** 2) ** 2


def beale(w):
    """Flat where the factors cancel, steep at the corners (Beale, 1958)."""
    x, y = w
    return (1.5 - x + x * y) ** 2 + (2.25 - x + x * y**2) ** 2 + (2.625 - x + x * y**3) ** 2


def two_wells(w):
    """The right well is a local minimum."""

    def well(x):
        return x**4 / 4 - x**2 / 2 + _TILT * x

    return well(w[0]) - well(_DEEP) + w[1] ** 2 / 2


def saddle(w):
    """Curvatures 10 and -1 at the origin, minima at (0, 1) and (0, -1)."""
    return 5 * w[0] ** 2 - w[1] ** 2 / 2 + w[1] ** 4 / 4 + 1 / 4


def monkey_saddle(w):
    """Three valleys and three ridges meet at the origin, where the Hessian is 0."""
    x, y = w
    return (x**3 - 3 * x * y**2) / 3 + (x**2 + y**2) ** 2 / 4 + 1 / 12


def plateau(w):
    """A well whose slope vanishes with the distance."""
    return 1 - jnp.exp(-(w[0] ** 2 + 4 * w[1] ** 2) / 2)


_HALF, _ROOT = 0.5, float(np.sqrt(3) / 2)
LANDSCAPES = (
    Landscape("ravine", ravine, (-3.0, 0.8), [(0, 0)], (-3.5, 1.5, -1.2, 1.2)),
    Landscape("ravine, noise", ravine, (-3.0, 0.8), [(0, 0)], (-3.5, 1.5, -1.2, 1.2), 3.0),
    Landscape("Rosenbrock", rosenbrock, (-1.2, 1.0), [(1, 1)], (-1.8, 1.8, -0.8, 2.2)),
    Landscape("Beale", beale, (1.0, 1.5), [(3, 0.5)], (-0.5, 4.0, -1.5, 2.0)),
    Landscape("two wells", two_wells, (1.3, 0.8), [(_DEEP, 0)], (-1.8, 1.8, -1.2, 1.2)),
    Landscape("saddle", saddle, (-1.0, 1e-3), [(0, 1), (0, -1)], (-1.2, 0.8, -1.5, 1.5)),
    Landscape(
        "monkey saddle",
        monkey_saddle,
        (1.0, 1e-3),
        [(_HALF, _ROOT), (-1, 0), (_HALF, -_ROOT)],
        (-1.4, 1.4, -1.3, 1.3),
    ),
    Landscape("plateau", plateau, (-3.0, 0.8), [(0, 0)], (-3.5, 1.5, -1.2, 1.2)),
)


def paths(
    function: Callable, starts, steps: int, rates, *extra, noise=0.0, seed: int = 0, **changes
) -> np.ndarray:
    """Where an optimiser of the project goes, in lanes side by side.

    Args:
      function: what falls, (d,), then a number of each of `extra` -> scalar.
      starts: (d,) or (lanes, d).
      steps: so many.
      rates: learning rates (lanes,).
      extra: arrays (lanes,), for the function.
      noise: standard deviation of what is added to each number of each gradient, () or (lanes,).
      seed: of the noise, which is the same in all lanes.
      changes: of the default config, but for a constant rate: {'section__name': value}.

    Returns:
      float64 (lanes, steps + 1, d), the start first.
    """
    config = default_config()
    config.duration, config.schedule.name = f"{steps} steps", "constant"
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    numbers = hyperparameters.from_config(config, 1000)

    def path(start, rate, noise, *extra):
        traced = numbers | {"optimizer": numbers["optimizer"] | {"learning_rate": rate}}

        def value_fn(params):
            return function(params["w"], *extra)

        def one(carry, step):
            params, state = carry
            value, gradients = jax.value_and_grad(value_fn)(params)
            key = jax.random.fold_in(jax.random.key(seed), step)
            seen = {"w": gradients["w"] + noise * jax.random.normal(key, start.shape)}
            rule = optimizers.build(config, traced, step)
            updates, state = rule.update(
                seen, state, params, value=value, grad=seen, value_fn=value_fn
            )
            params = {"w": params["w"] + updates["w"]}
            return (params, state), params["w"]

        params = {"w": start}
        carry = params, optimizers.build(config, traced, 0).init(params)
        return jax.lax.scan(one, carry, jnp.arange(steps))[1]

    rates, starts = jnp.asarray(rates, jnp.float32), jnp.asarray(starts, jnp.float32)
    starts = jnp.broadcast_to(starts, (len(rates), starts.shape[-1]))
    noise = jnp.broadcast_to(jnp.asarray(noise, jnp.float32), len(rates))
    found = jax.jit(jax.vmap(path))(starts, rates, noise, *map(jnp.asarray, extra))
    return np.asarray(jnp.concatenate([starts[:, None], found], axis=1), np.float64)


def heights(function: Callable, paths: np.ndarray, *extra) -> np.ndarray:
    """The function along paths (lanes, steps, d) -> float64 (lanes, steps); inf where it is NaN."""

    def along(path, *extra):
        return jax.vmap(lambda w: function(w, *extra))(path)

    lanes = jnp.asarray(paths, jnp.float32), *map(jnp.asarray, extra)
    found = np.asarray(jax.jit(jax.vmap(along))(*lanes), np.float64)
    return np.nan_to_num(found, nan=np.inf, posinf=np.inf)


def arrival(heights: np.ndarray, share: float = 0.01) -> int | None:
    """The step from which on heights (steps + 1,) stay below this share of the first; or None."""
    above = np.flatnonzero(~(heights < share * heights[0]))
    return None if above[-1] == len(heights) - 1 else int(above[-1]) + 1


def random_field(key: jax.Array, dimension: int, waves: int = 256) -> jax.tree_util.Partial:
    """A sum of cosines of random directions, (d,) -> scalar: nearly a Gaussian field of variance 1.

    Its correlation is exp(-distance^2 / 2), whatever the direction (Rahimi and Recht, 2007).
    """
    directions_key, phases_key = jax.random.split(key)
    directions = jax.random.normal(directions_key, (waves, dimension))
    phases = jax.random.uniform(phases_key, (waves,), maxval=2 * jnp.pi)
    return jax.tree_util.Partial(_cosines, directions, phases)


def _cosines(directions, phases, x):
    return jnp.sqrt(2 / len(phases)) * jnp.cos(directions @ x + phases).sum()


def critical_points(field: jax.tree_util.Partial, starts: jax.Array, side: float) -> tuple:
    """The critical points that Newton's method finds in the cube from 0 to `side`.

    Args:
      field: smooth, (d,) -> scalar.
      starts: (n, d).
      side: of the cube.

    Returns:
      Heights (m,) and eigenvalues (m, d), ascending, of the different ones.
    """
    points, heights, slopes, eigenvalues = map(np.asarray, _newton(field, starts))
    different: list[int] = []
    for n in np.flatnonzero(((points > 0) & (points < side)).all(1) & (slopes < 1e-4)):
        if not different or np.linalg.norm(points[different] - points[n], axis=1).min() > 0.02:
            different.append(n)
    return heights[different], eigenvalues[different]


@jax.jit
def _newton(field, starts):
    """Where 40 steps, each at most .3 long, end; heights, slopes and eigenvalues there."""

    def step(_, x):
        move = -jnp.linalg.solve(jax.hessian(field)(x), jax.grad(field)(x))
        return x + move * jnp.minimum(1, 0.3 / jnp.maximum(jnp.linalg.norm(move), 1e-9))

    def end(x):
        x = jax.lax.fori_loop(0, 40, step, x)
        slope = jnp.linalg.norm(jax.grad(field)(x))
        return x, field(x), slope, jnp.linalg.eigvalsh(jax.hessian(field)(x))

    return jax.vmap(end)(starts)
