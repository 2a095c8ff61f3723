"""Initialisers: mean, variance, range, fans and orthogonality over many draws; the lecture's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.models import activations, initializers
from research.names import bind, public_functions

NAMES = public_functions(initializers)
NUMBERS = {"sparse_connections": 15}
SHAPES = {"dense": (300, 200), "conv": (3, 3, 40, 80)}


def draw(name, shape, seed=0):
    kernel = bind(NAMES[name], NUMBERS, {})(jax.random.key(seed), shape)
    assert kernel.dtype == jnp.float32 and kernel.shape == shape
    return np.asarray(kernel, np.float64)


def fans(shape):
    area = np.prod(shape[:-2])
    return area * shape[-2], area * shape[-1]


# name: fans -> (standard deviation, the largest there may be)
RANDOM = {
    "normal": lambda i, o: (1, np.inf),
    "small_normal": lambda i, o: (0.01, np.inf),
    "uniform": lambda i, o: (1 / np.sqrt(3), 1),
    "xavier_normal": lambda i, o: (np.sqrt(2 / (i + o)), np.inf),
    "xavier_uniform": lambda i, o: (np.sqrt(2 / (i + o)), np.sqrt(6 / (i + o))),
    "he_normal": lambda i, o: (np.sqrt(2 / i), np.inf),
    "he_uniform": lambda i, o: (np.sqrt(2 / i), np.sqrt(6 / i)),
    "lecun_normal": lambda i, o: (np.sqrt(1 / i), np.inf),
    "lecun_uniform": lambda i, o: (np.sqrt(1 / i), np.sqrt(3 / i)),
    "lecun_truncated": lambda i, o: (np.sqrt(1 / i), 2 / 0.8796 * np.sqrt(1 / i)),
}
STRUCTURED = {"zeros", "constant", "orthogonal", "delta_orthogonal", "dirac", "sparse"}


def test_every_initializer_is_tested():
    assert set(RANDOM) | STRUCTURED == set(NAMES)


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_moments_are_the_papers(name, shape):
    deviation, largest = RANDOM[name](*fans(shape))
    weights = np.stack([draw(name, shape, seed) for seed in range(4)])
    error = 1 / np.sqrt(2 * weights.size)  # one sigma of a deviation, for normal weights
    assert weights.std() == pytest.approx(deviation, rel=5 * error)
    assert abs(weights.mean()) <= 5 * deviation / np.sqrt(weights.size)
    assert np.abs(weights).max() <= largest * (1 + 1e-5)
    bound = min(largest, 3.5 * deviation)  # and uses its range
    assert np.abs(weights).max() >= 0.99 * bound
    # Draws are independent: over seeds, and within.
    assert abs(np.corrcoef(weights[0].ravel(), weights[1].ravel())[0, 1]) < 0.04


@pytest.mark.parametrize("shape", [(300, 200), (200, 300), (3, 3, 10, 60), (3, 3, 10, 200)])
def test_orthogonal(shape):
    matrix = draw("orthogonal", shape).reshape(-1, shape[-1])
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("channels", [(16, 16), (16, 24), (24, 16)])
def test_delta_orthogonal_keeps_norms(channels):
    kernel = draw("delta_orthogonal", (3, 3, *channels))
    centre = kernel[1, 1]
    gram = centre @ centre.T if channels[0] <= channels[1] else centre.T @ centre
    np.testing.assert_allclose(gram, np.eye(len(gram)), atol=1e-5)
    kernel[1, 1] = 0
    assert not kernel.any()


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
def test_dirac_is_the_identity_of_convolutions(size):
    from research.models.conv import conv

    x = jax.random.normal(jax.random.key(0), (2, 6, 5, 4))
    kernel = jnp.asarray(draw("dirac", (size, size, 4, 6)), jnp.float32)
    y = conv(x, kernel)
    np.testing.assert_array_equal(y[..., :4], x)
    assert not np.asarray(y[..., 4:]).any()
    np.testing.assert_array_equal(draw("dirac", (4, 4)), np.eye(4))


@pytest.mark.parametrize(("shape", "count"), [((300, 200), 15), ((3, 3, 4, 50), 15), ((9, 7), 9)])
def test_sparse_has_so_many_connections(shape, count):
    kernel = draw("sparse", shape).reshape(-1, shape[-1])
    assert ((kernel != 0).sum(0) == count).all()
    if kernel.shape[0] > count:
        assert len(np.unique((kernel != 0).T, axis=0)) > shape[-1] / 2  # not the same ones
    used = kernel[kernel != 0]
    assert used.std() == pytest.approx(1, abs=5 / np.sqrt(2 * used.size))


def test_zeros_and_constant():
    assert not draw("zeros", (3, 4)).any()
    assert (draw("constant", (3, 4)) == 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_initializers_take_lanes_of_keys(name):
    function = bind(NAMES[name], NUMBERS, {})
    keys = jax.random.split(jax.random.key(0), 3)
    lanes = jax.vmap(lambda key: function(key, (3, 3, 4, 6)))(keys)
    for lane, key in zip(lanes, keys, strict=True):
        np.testing.assert_allclose(lane, function(key, (3, 3, 4, 6)), atol=1e-6)


def deviations(name, scale, activation, layers=10, units=500, examples=1000):
    """A classic experiment: the standard deviation after each of ten layers of 500 units."""
    keys = jax.random.split(jax.random.key(0), layers + 1)
    x, found = jax.random.normal(keys[0], (examples, units)), []
    for key in keys[1:]:
        kernel = scale * bind(NAMES[name], NUMBERS, {})(key, (units, units))
        x = activation(x @ kernel)
        found.append(float(x.std()))
    return np.array(found)


def test_the_lectures_ten_layers():
    """Known, or computed by NumPy; the random seed moves them by some percent."""
    small = deviations("normal", 0.01, activations.tanh)
    np.testing.assert_allclose(small[:5], [0.213, 0.0476, 0.0106, 0.00238, 0.000532], rtol=0.05)
    np.testing.assert_allclose(small[3:] / small[2:-1], 0.01 * np.sqrt(500), rtol=0.05)
    assert (deviations("normal", 1.0, activations.tanh) > 0.97).all()  # saturated
    xavier = deviations("xavier_normal", 1.0, activations.tanh)
    want = [0.628, 0.485, 0.407, 0.357, 0.321, 0.294, 0.272, 0.254, 0.241, 0.228]
    np.testing.assert_allclose(xavier, want, rtol=0.05)
    failing = deviations("xavier_normal", 1.0, activations.relu)
    assert failing[0] == pytest.approx(0.584, rel=0.03)
    assert failing[-1] == pytest.approx(0.026, rel=0.25)
    he = deviations("he_normal", 1.0, activations.relu)
    np.testing.assert_allclose(he, 0.826, rtol=0.2)
