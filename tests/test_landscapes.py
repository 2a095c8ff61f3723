"""What landscapes are measured by, against closed forms in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.claims import measures, pictures, surfaces
from benchmarks.claims.surfaces import LANDSCAPES

EACH = pytest.mark.parametrize("landscape", LANDSCAPES, ids=lambda one: one.name)


@EACH
def test_a_landscape_is_0_and_flat_at_its_minima_and_above_0_elsewhere(landscape):
    left, right, bottom, top = landscape.box
    with jax.enable_x64(True):
        for place in landscape.minima:
            w = jnp.array(place, float)
            assert left <= w[0] <= right and bottom <= w[1] <= top
            assert landscape.height(w) == pytest.approx(0, abs=1e-12)
            np.testing.assert_allclose(jax.grad(landscape.height)(w), 0, atol=1e-12)
            assert np.linalg.eigvalsh(jax.hessian(landscape.height)(w)).min() > 0.1
        grid = np.stack(np.meshgrid(np.linspace(left, right, 201), np.linspace(bottom, top, 201)))
        assert np.min(landscape.height(grid)) >= 0
        assert landscape.height(jnp.array(landscape.start, float)) > 0


@pytest.mark.parametrize(
    "function, place, curvatures",
    [
        (surfaces.ravine, (0, 0), (1, 50)),
        (surfaces.rosenbrock, (1, 1), (501 - np.sqrt(250601), 501 + np.sqrt(250601))),
        (surfaces.saddle, (0, 0), (-1, 10)),
        (surfaces.saddle, (0, 1), (2, 10)),
        (surfaces.monkey_saddle, (0, 0), (0, 0)),
        (surfaces.plateau, (0, 0), (1, 4)),
    ],
)
def test_curvatures(function, place, curvatures):
    with jax.enable_x64(True):
        found = np.linalg.eigvalsh(jax.hessian(function)(jnp.array(place, float)))
    np.testing.assert_allclose(found, curvatures, atol=1e-9)


def test_the_two_wells_have_a_local_minimum_between_the_start_and_the_least():
    x = np.linspace(-2, 2, 4001)
    height = np.asarray(surfaces.two_wells(np.stack([x, 0 * x])))
    lowest = x[1:-1][(height[1:-1] < height[:-2]) & (height[1:-1] < height[2:])]
    assert len(lowest) == 2 and lowest[0] < 0 < lowest[1] < LANDSCAPES[4].start[0]
    assert surfaces.two_wells(np.array([lowest[1], 0])) > 0.01 * surfaces.two_wells(
        np.array(LANDSCAPES[4].start)
    )


@pytest.mark.parametrize("name", ["sgd", "momentum", "nesterov"])
def test_paths_are_powers_of_a_matrix(name):
    rates, momentum, steps = [0.01, 0.03], 0.8, 30
    found = surfaces.paths(
        surfaces.ravine, (1.0, -1.0), steps, rates, optimizer__name=name,
        optimizer__momentum=momentum,
    )  # fmt: skip
    assert found.shape == (2, steps + 1, 2)
    for rate, path in zip(rates, found, strict=True):
        for axis, (start, curvature) in enumerate([(1.0, 1.0), (-1.0, 50.0)]):
            step = measures.step_matrix(name, rate, momentum, curvature)
            expected = [(np.linalg.matrix_power(step, t) @ [start, 0])[0] for t in range(steps + 1)]
            np.testing.assert_allclose(path[:, axis], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("k", [1.5, 10.0, 1000.0])
def test_best_factors_are_those_of_the_largest_eigenvalue(k):
    for name, (factor, rate, momentum) in measures.best_on_a_quadratic(k).items():
        radii = [
            np.abs(np.linalg.eigvals(measures.step_matrix(name, rate, momentum, h))).max()
            for h in np.linspace(1, k, 50)
        ]
        assert max(radii) == pytest.approx(factor, rel=1e-6), name
        for other_rate, other in ((1.01 * rate, momentum), (0.99 * rate, momentum)):
            matrices = [measures.step_matrix(name, other_rate, other, h) for h in (1, k)]
            assert max(np.abs(np.linalg.eigvals(m)).max() for m in matrices) > factor, name


def test_noise_comes_to_rest_where_the_covariance_no_longer_changes():
    for rate, momentum in ((0.3, 0.0), (0.1, 0.9)):
        step = measures.step_matrix("momentum", rate, momentum, 1.0)
        noise = np.array([-rate, 1.0])  # enters by the direction
        covariance = np.zeros((2, 2))
        for _ in range(2000):
            covariance = step @ covariance @ step.T + np.outer(noise, noise)
        assert measures.settled_square(rate, momentum) == pytest.approx(covariance[0, 0])


def test_lanes_have_starts_rates_and_functions_of_their_own():
    found = surfaces.paths(
        lambda w, h: h * (w**2).sum() / 2, [[1.0], [2.0], [2.0]], 3, [0.1, 0.1, 0.5],
        np.array([1.0, 2.0, 1.0]), noise=[0.0, 0.0, 1.0], optimizer__name="sgd",
    )[..., 0]  # fmt: skip
    falls = np.arange(4)
    np.testing.assert_allclose(found[:2], [0.9**falls, 2 * 0.8**falls], rtol=1e-6)
    assert np.abs(found[2] - 2 * 0.5**falls)[1:].min() > 0.01
    assert surfaces.heights(lambda w, h: h * w[0], found[..., None], np.array([0.0, 1, 2]))[
        :, 0
    ].tolist() == [0, 2, 4]


def test_noise_is_added_to_gradients():
    path = surfaces.paths(
        lambda w: 0.0 * w.sum(), np.zeros(4000), 1, [0.5], noise=3.0, optimizer__name="sgd"
    )
    assert path[0, 1].std() == pytest.approx(1.5, rel=0.05)
    assert abs(path[0, 1].mean()) < 0.1


def test_escape_takes_a_logarithm():
    assert measures.escape("sgd", 0.01, 1e-6) == pytest.approx(np.log(1e6) / np.log(1.01))
    path = surfaces.paths(
        lambda w: -(w**2).sum() / 2, [1e-4], 200, [0.05], optimizer__name="momentum",
        optimizer__momentum=0.9,
    )  # fmt: skip
    taken = np.argmax(np.abs(path[0, :, 0]) > 1)
    assert taken == pytest.approx(measures.escape("momentum", 0.05, 1e-4), abs=3)


def test_arrival_is_for_good():
    assert surfaces.arrival(np.array([100.0, 0.5, 2.0, 0.9, 0.5])) == 3
    assert surfaces.arrival(np.array([100.0, 0.5, 2.0])) is None
    assert surfaces.arrival(np.array([100.0, np.inf, np.nan])) is None
    assert surfaces.heights(surfaces.ravine, np.array([[[1.0, 0.0], [np.nan, 0.0]]])).tolist() == [
        [0.5, np.inf]
    ]


def test_share_of_matrices_without_a_falling_direction():
    random, draws = np.random.default_rng(0), 200_000
    exact = {1: 1 / 2, 2: (2 - np.sqrt(2)) / 4, 3: (np.pi - 2 * np.sqrt(2)) / (4 * np.pi)}
    for n, share in exact.items():
        found = (measures.orthogonal_ensemble(random, draws, n) > 0).all(1).mean()
        assert found == pytest.approx(share, abs=5 * np.sqrt(share / draws)), n


def test_shares_of_critical_points():
    random, third = np.random.default_rng(0), 6 * np.sqrt(6)
    exact = {
        1: [1 / 2, 1 / 2],
        2: [1 / 4, 1 / 2, 1 / 4],  # on a torus as many saddles as extrema (Morse)
        # Bardeen et al., 1986, for the densities in three dimensions
        3: [(29 - third) / 116, (29 + third) / 116, (29 + third) / 116, (29 - third) / 116],
    }
    for d, shares in exact.items():
        found = measures.shares_by_index(measures.orthogonal_ensemble(random, 100_000, d + 1))
        np.testing.assert_allclose(found, shares, rtol=0.02)


def test_eigenvalues_of_large_matrices_fill_a_semicircle():
    eigenvalues = measures.orthogonal_ensemble(np.random.default_rng(0), 20, 200).ravel()
    for place in (-0.9, -0.3, 0.0, 0.5):
        below = (eigenvalues < 2 * np.sqrt(200) * place).mean()
        assert below == pytest.approx(measures.semicircle_below(place), abs=0.01)
    assert measures.semicircle_below(np.array([-2, 2])).tolist() == [0, 1]


def test_a_random_field_is_gaussian_with_its_correlation():
    at = jnp.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    keys = jax.random.split(jax.random.key(0), 4000)
    values = jax.vmap(lambda key: jax.vmap(surfaces.random_field(key, 2, waves=32))(at))(keys)
    expected = [[1, np.exp(-0.5), np.exp(-2)], [np.exp(-0.5), 1, np.exp(-2.5)]]
    np.testing.assert_allclose(np.cov(values.T)[:2], expected, atol=0.06)


def test_all_critical_points_are_found():
    """Of cos x + cos y: minima, maxima and saddles at the multiples of pi."""
    starts = jax.random.uniform(jax.random.key(0), (400, 2), minval=0.0, maxval=9.0)
    field = jax.tree_util.Partial(lambda x: jnp.cos(x).sum())
    heights, eigenvalues = surfaces.critical_points(field, starts, 9.0)
    assert sorted(np.round(heights)) == [-2, 0, 0, 2]
    np.testing.assert_allclose(eigenvalues.sum(1), -heights, atol=1e-4)


def test_hessian_spectrum():
    random = np.random.default_rng(0).normal(size=(5, 5))
    matrix = random + random.T

    def loss(params):
        w = jnp.concatenate([params["a"].ravel(), params["b"]])
        return w @ matrix @ w / 2

    params = {"a": jnp.ones((2, 2)), "b": jnp.ones(1)}
    eigenvalues, slope = measures.hessian_spectrum(loss, params)
    np.testing.assert_allclose(eigenvalues, np.linalg.eigvalsh(matrix), atol=1e-5)
    assert slope == pytest.approx(np.linalg.norm(matrix @ np.ones(5)), rel=1e-5)


def test_pictures_are_png():
    pytest.importorskip("matplotlib")
    walks = {one.name: {"sgd": np.array([one.start, one.minima[0]])} for one in LANDSCAPES}
    for picture in (
        pictures.contours(walks, LANDSCAPES),
        pictures.panels([lambda axis: axis.plot([1, 2], label="a")] * 2),
    ):
        assert picture.startswith(b"\x89PNG") and len(picture) < 400_000
