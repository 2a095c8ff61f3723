"""The pure functions that claims are measured by."""

from collections.abc import Sequence

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np

from research.models.dense import Dense


def sign_agreement(gradients: jax.Array) -> jax.Array:
    """(..., weights) -> |mean of the signs| (...): 1 where all are alike, about 0 at random."""
    return jnp.abs(jnp.sign(gradients).mean(-1))


def signs_of_neuron(batch: int, centred: bool, draws: int) -> float:
    """The mean `sign_agreement` of one neuron's 784 weight gradients.

    Inputs are uniform in [0, 1], or less 1/2 where centred; upstream gradients are N(0, 1).
    """
    layer = Dense(1)
    params = layer.init(jax.random.key(0), jnp.ones((1, 784)))

    def one(key):
        inputs_key, upstream_key = jax.random.split(key)
        inputs = jax.random.uniform(inputs_key, (batch, 784)) - 0.5 * centred
        upstream = jax.random.normal(upstream_key, (batch, 1))
        gradients = jax.grad(lambda params: (layer.apply(params, inputs) * upstream).sum())(params)
        return sign_agreement(gradients["params"]["kernel"].ravel())

    keys = jax.random.split(jax.random.key(1), draws)
    return float(jax.jit(lambda keys: jax.lax.map(one, keys))(keys).mean())


def dead_fraction(outputs: Sequence[jax.Array]) -> float:
    """The share of units that give the same for every example, so that nothing goes through them.

    Args:
      outputs: of each layer after the activation, (N, units) or (N, H, W, channels).
    """
    dead = [
        np.ptp(np.asarray(layer).reshape(-1, layer.shape[-1]), axis=0) == 0 for layer in outputs
    ]
    return float(np.concatenate(dead).mean())


def distinct_units(kernel: np.ndarray) -> int:
    """How many different columns a kernel (in, out) has."""
    return len(np.unique(np.asarray(kernel), axis=1).T)


def convergence_rate(distances: np.ndarray) -> float:
    """The factor a step, over the later half: distances (steps,) from the minimum."""
    later = np.asarray(distances, np.float64)[len(distances) // 2 :]
    return float((later[-1] / later[0]) ** (1 / (len(later) - 1)))


def orthogonal_ensemble(random: np.random.Generator, draws: int, n: int) -> np.ndarray:
    """Ascending eigenvalues (draws, n) of the Gaussian orthogonal ensemble.

    Symmetric matrices with entries of variance 1, on the diagonal 2; for large n they fill a
    semicircle of radius 2 sqrt(n) (Wigner, 1958).
    """
    square = random.standard_normal((draws, n, n))
    return np.linalg.eigvalsh((square + square.swapaxes(1, 2)) / np.sqrt(2))


def shares_by_index(eigenvalues: np.ndarray) -> np.ndarray:
    """Of all critical points of an isotropic Gaussian field, those with 0, 1 ... d falling ways.

    By the formula of Kac and Rice their Hessians are of the ensemble, plus N(0, 1) times the
    identity, weighted by |determinant|. That is, as for Fyodorov (2004), the joint density of
    eigenvalues of one dimension more: share k is proportional to E exp(-(k-th smallest)^2 / 4).

    Args:
      eigenvalues: (draws, d + 1), of `orthogonal_ensemble`.
    """
    weights = np.exp(-(eigenvalues**2) / 4).mean(0)
    return weights / weights.sum()


def semicircle_below(place: np.ndarray) -> np.ndarray:
    """The share of Wigner's semicircle of radius 1 that lies below a place."""
    place = np.clip(place, -1, 1)
    return 0.5 + (place * np.sqrt(1 - place**2) + np.arcsin(place)) / np.pi


def hessian_spectrum(loss, params) -> tuple[np.ndarray, float]:
    """Ascending eigenvalues (parameters,) of a loss's Hessian, and the length of its gradient.

    Args:
      loss: params -> scalar.
      params: a tree of few numbers, for the matrix is dense.
    """
    flat, unravel = jax.flatten_util.ravel_pytree(params)

    def of_flat(flat):
        return loss(unravel(flat))

    hessian, gradient = jax.jit(lambda x: (jax.hessian(of_flat)(x), jax.grad(of_flat)(x)))(flat)
    return np.linalg.eigvalsh(np.asarray(hessian, np.float64)), float(jnp.linalg.norm(gradient))


def best_on_a_quadratic(k: float) -> dict[str, tuple[float, float, float]]:
    """By optimiser: the least factor a step on curvatures 1 to k, and the rate and momentum for it.

    Polyak (1964); for Nesterov's the best there is (Lessard et al., 2016, proposition 1).
    """
    root, wide = np.sqrt(k), np.sqrt(3 * k + 1)
    heavy = (root - 1) / (root + 1)
    return {
        "sgd": ((k - 1) / (k + 1), 2 / (k + 1), 0.0),
        "momentum": (heavy, 4 / (root + 1) ** 2, heavy**2),
        "nesterov": (1 - 2 / wide, 4 / (3 * k + 1), (wide - 2) / (wide + 2)),
    }


def settled_square(rate: float, momentum: float) -> float:
    """E w^2 where heavy ball on w^2 / 2 comes to rest, with noise of variance 1 on its gradient."""
    return rate * (1 + momentum) / ((1 - momentum) * (2 * (1 + momentum) - rate))


def step_matrix(name: str, rate: float, momentum: float, curvature: float) -> np.ndarray:
    """What a step of sgd, momentum or nesterov on a quadratic does to (w, direction): (2, 2)."""
    m = momentum * (name != "sgd")
    trace = np.array([curvature, m])  # m <- curvature w + m m
    moved = np.array([curvature, 0]) + m * trace if name == "nesterov" else trace
    return np.stack([np.array([1, 0]) - rate * moved, trace])


def escape(name: str, rate: float, start: float, momentum: float = 0.9) -> float:
    """Steps from `start` to 1 along a direction of curvature -1, once the transient is over."""
    eigenvalues = np.linalg.eigvals(step_matrix(name, rate, momentum, -1.0))
    return float(-np.log(start) / np.log(np.abs(eigenvalues).max()))
