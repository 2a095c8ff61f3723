"""The surrogate of `bayes` and its acquisitions: closed forms, finite differences, Monte Carlo."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from research.tuning import acquisition, bayesian, gaussian_process
from research.tuning import posterior as given
from research.tuning.axes import Axis
from research.tuning.bayesian import Surrogate, observations
from research.tuning.gaussian_process import Inputs
from research.tuning.spaces import Space
from research.tuning.trials import DIVERGED, FINISHED, RUNNING, Proposal, Trial

# Two numbers and a choice of two.
INPUTS = Inputs(axes=(0, 1, 2, 2), warped=(True, True, False, False))
PARAMETERS = np.array([-0.7, 0.2, 0.4, 0.3, -4.0, 0.25, -0.2, -0.1, 0.3])
SPACE = Space(
    (
        Axis("linear", "x", 0.0, 1.0),
        Axis("linear", "y", 0.0, 1.0),
        Axis("choice", "z", values=("a", "b")),
    )
)
IMPROVEMENT = functools.partial(acquisition.log_expected_improvement)
BOUND = functools.partial(acquisition.upper_confidence_bound, beta=4.0)
both = pytest.mark.parametrize("worth", [IMPROVEMENT, BOUND], ids=["improvement", "bound"])


@pytest.fixture(autouse=True)
def _float64():
    with jax.enable_x64(True):
        yield


def data(count, seed=0):
    random = np.random.default_rng(seed)
    choice = np.eye(2)[random.integers(2, size=count)] / math.sqrt(2)
    x = np.concatenate([random.random((count, 2)), choice], axis=1)
    y = np.sin(5 * x[:, 0]) + x[:, 1] ** 2 + x[:, 2] + 0.1 * random.standard_normal(count)
    return x, (y - y.mean()) / y.std()


def reference_covariance(left, right):
    """Number by number, as it stands in the books."""
    length, amplitude = np.exp(PARAMETERS[:3]), math.exp(PARAMETERS[3])
    (a, b), matrix = np.exp(PARAMETERS[5:]).reshape(2, 2), np.zeros((len(left), len(right)))
    for i, one in enumerate(left):
        for j, other in enumerate(right):
            total = 0.0
            for axis in range(2):
                warped = [1 - (1 - x[axis] ** a[axis]) ** b[axis] for x in (one, other)]
                total += ((warped[0] - warped[1]) / length[axis]) ** 2
            total += (one[2] != other[2]) / length[2] ** 2
            r = math.sqrt(5 * total)
            matrix[i, j] = amplitude * (1 + r + r**2 / 3) * math.exp(-r)
    return matrix


def posterior_of(x, y, more=0, samples=1):
    padded = gaussian_process.padded(x, y, more)
    return given.observed(PARAMETERS, *padded, inputs=INPUTS, samples=samples)


def test_posterior_is_the_closed_form():
    (x, y), (new, _) = data(20), data(7, seed=1)
    noisy = reference_covariance(x, x) + math.exp(PARAMETERS[4]) * np.eye(20)
    cross = reference_covariance(x, new)
    mean, variance = given.predicted(posterior_of(x, y), new, INPUTS)
    np.testing.assert_allclose(mean[0], cross.T @ np.linalg.solve(noisy, y), rtol=1e-9)
    expected = math.exp(PARAMETERS[3]) - np.sum(cross * np.linalg.solve(noisy, cross), axis=0)
    np.testing.assert_allclose(variance, expected, rtol=1e-9)


def test_loss_is_the_likelihood_times_the_prior_whatever_the_padding():
    x, y = data(20)
    noisy = reference_covariance(x, x) + math.exp(PARAMETERS[4]) * np.eye(20)
    likelihood = stats.multivariate_normal(np.zeros(20), noisy).logpdf(y)
    mean, deviation = INPUTS.prior.T
    prior = stats.norm(mean, deviation).logpdf(PARAMETERS).sum()
    constant = 10 * np.log(2 * np.pi) + stats.norm(0, 1).logpdf(0) * -9 + np.log(deviation).sum()
    for more in (0, 40):
        padded = gaussian_process.padded(x, y, more)
        loss, _ = gaussian_process.loss_and_gradient(PARAMETERS, *padded, inputs=INPUTS)
        assert float(loss) == pytest.approx(-likelihood - prior - constant, rel=1e-9)


def test_gradients_are_those_of_finite_differences():
    padded = gaussian_process.padded(*data(20))
    _, gradient = gaussian_process.loss_and_gradient(PARAMETERS, *padded, inputs=INPUTS)
    for index, step in enumerate(1e-5 * np.eye(len(PARAMETERS))):
        ahead, behind = (
            gaussian_process.loss_and_gradient(PARAMETERS + sign * step, *padded, inputs=INPUTS)[0]
            for sign in (1, -1)
        )
        assert float(gradient[index]) == pytest.approx(float(ahead - behind) / 2e-5, rel=1e-6)


@both
@pytest.mark.parametrize("first", [True, False])
def test_gradients_of_what_a_point_is_worth_are_those_of_finite_differences(worth, first):
    posterior, (new, _) = posterior_of(*data(20), more=1, samples=2), data(5, seed=1)
    pool = given.candidates(posterior, new, inputs=INPUTS)
    judge = given.judge(Partial(worth.func, **worth.keywords), posterior, pool, inputs=INPUTS)
    draws = np.array([0.5, -0.5])
    posterior, _ = given.extended(posterior, pool, new[4], 20, draws, inputs=INPUTS)
    known = functools.partial(given.worth_and_gradient, judge, posterior, first, inputs=INPUTS)
    _, gradient = known(new[:3])
    for column in range(2):
        step = np.zeros(4)
        step[column] = 1e-6
        slope = (known(new[:3] + step)[0] - known(new[:3] - step)[0]) / 2e-6
        np.testing.assert_allclose(gradient[:, column], slope, rtol=1e-5, atol=1e-6)


def test_expected_improvement_is_that_of_monte_carlo():
    posterior, (new, _) = posterior_of(*data(20)), data(6, seed=1)
    moments = given.predicted(posterior, new, INPUTS)
    mean, variance = moments
    best = jnp.median(mean)[None]
    drawn = np.asarray(mean) + np.sqrt(variance) * np.random.default_rng(0).standard_normal(
        (400_000, 6)
    )
    gain = np.maximum(float(best[0]) - drawn, 0)
    context = given.Context(best, moments, True)
    worth = np.exp(acquisition.log_expected_improvement(moments, moments, context))
    tolerance = 5 * gain.std(axis=0) / math.sqrt(len(gain)) + 1e-12
    assert (np.abs(gain.mean(axis=0) - worth) < tolerance).all()


@pytest.mark.parametrize("z", [-1e5, -40.0, -8.001, -7.999, -5.0, -1.0, 0.0, 4.0])
def test_log_improvement_far_from_the_best(z):
    """Against the continued fraction of the Mills ratio, and SciPy where nothing cancels."""
    if z < -5:
        fraction = -z
        for k in range(200, 0, -1):
            fraction = -z + k / fraction
        # h = phi (1 - t R), and 1 - t R = 1 / (t F + 1) where R = 1 / (t + 1 / F)
        tail = (fraction + z) / fraction
        expected = stats.norm.logpdf(z) + math.log(tail)
    else:
        expected = math.log(stats.norm.pdf(z) + z * stats.norm.cdf(z))
    assert float(acquisition._log_improvement(jnp.float64(z))) == pytest.approx(expected, rel=1e-9)
    assert float(jax.grad(acquisition._log_improvement)(jnp.float64(z))) > 0


def test_a_fantasy_is_an_observation():
    """Conditioning row by row is conditioning at once, on what the draws stand for."""
    (x, y), (new, _) = data(20), data(5, seed=1)
    draws = np.array([[0.3, -1.2], [1.0, 0.4]])
    posterior = posterior_of(x, y, more=2, samples=2)
    pool, fantasies = given.candidates(posterior, new, inputs=INPUTS), []
    for row, point in enumerate(new[:2]):
        mean, variance = given.predicted(posterior, point[None], INPUTS)
        noise = math.exp(PARAMETERS[4])
        fantasies.append(np.asarray(mean)[:, 0] + np.sqrt(variance[0] + noise) * draws[row])
        posterior, pool = given.extended(
            posterior, pool, point, 20 + row, draws[row], inputs=INPUTS
        )
    mean, variance = given.predicted(posterior, new, INPUTS)
    np.testing.assert_allclose(pool.moments.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(pool.moments.variance, variance, rtol=1e-8)
    for sample in range(2):
        longer = np.append(y, [fantasy[sample] for fantasy in fantasies])
        at_once = posterior_of(np.concatenate([x, new[:2]]), longer)
        expected, spread = given.predicted(at_once, new, INPUTS)
        np.testing.assert_allclose(mean[sample], expected[0], rtol=1e-8)
        np.testing.assert_allclose(variance, spread, rtol=1e-8)


LINE = Inputs(axes=(0,), warped=(False,))  # one number, which is not warped
LENGTH, AMPLITUDE, NOISE = 0.2, 1.3, 0.01


def moments_on_a_line(known, y, x):
    """Mean and variance at x of a Gaussian process with Matern-5/2, as in the books."""

    def covariance(left, right):
        r = math.sqrt(5) * np.abs(left[:, None] - right[None]) / LENGTH
        return AMPLITUDE * (1 + r + r**2 / 3) * np.exp(-r)

    cross = covariance(known, x)
    solved = np.linalg.solve(covariance(known, known) + NOISE * np.eye(len(known)), cross)
    return y @ solved, AMPLITUDE - (cross * solved).sum(0)


def bound_and_exploration(known, y, pending, grid, count, beta):
    """GP-UCB-PE on a grid, number by number: places in it, and the least upper bound."""
    everywhere = np.append(grid, known)
    mean, variance = moments_on_a_line(known, y, everywhere)
    least = (mean + np.sqrt(beta * variance)).min()
    mean, variance = mean[: len(grid)], variance[: len(grid)]
    inside = mean - np.sqrt(beta * variance) <= least
    _, lessened = moments_on_a_line(np.append(known, pending), np.append(y, 0 * pending), grid)
    found = [np.argmin(mean - np.sqrt(beta * lessened))]
    while len(found) < count:
        x = np.concatenate([known, pending, grid[found]])
        _, variance = moments_on_a_line(x, np.zeros(len(x)), grid)
        found.append(np.where(inside, variance, -1).argmax())
    assert 2 * count < inside.sum() < len(grid) - 8  # or any would do, and none were kept out
    return found, least


@pytest.mark.parametrize("beta", [4.0, 9.0])
@pytest.mark.parametrize("pending", [[], [0.74, 0.31]])
def test_the_bound_then_pure_exploration(beta, pending):
    known, pending = np.array([0.05, 0.3, 0.5, 0.62, 0.9]), np.array(pending)
    y = np.array([1.2, -0.2, 0.4, -0.9, 0.6])
    grid, count = np.linspace(0, 1, 64), 5
    expected, least = bound_and_exploration(known, y, pending, grid, count, beta)
    draws = np.array([[0.4, -0.4]] * (len(pending) + count))
    padded = gaussian_process.padded(known[:, None], y, len(draws))
    parameters = np.log([LENGTH, AMPLITUDE, NOISE])
    posterior = given.observed(parameters, *padded, inputs=LINE, samples=2)
    worth = Partial(acquisition.upper_confidence_bound, beta=beta)
    groups = grid.reshape(4, 16, 1)
    points = functools.partial(given.batch, worth, posterior, 5, pending[:, None], groups)
    found = points(np.zeros(groups.shape, bool), draws, LINE)
    np.testing.assert_allclose(found[:, 0], grid[expected], atol=1e-12)

    # Between the points of the grid it is no worse, and stays in the region.
    x = points(np.ones(groups.shape, bool), draws, LINE)[:, 0]
    places = np.append(x, np.linspace(0, 1, 4001))
    mean, variance = moments_on_a_line(known, y, places)
    lower = mean - np.sqrt(beta * variance)
    assert (lower[:count] <= least + 1e-9).all()
    for place in range(count):
        before = np.concatenate([known, pending, x[:place]])
        _, variance = moments_on_a_line(before, np.zeros(len(before)), places)
        if place == 0:
            bound = mean - np.sqrt(beta * variance)
            assert bound[0] <= bound.min() + 1e-3
        else:
            most = variance[count:][lower[count:] <= least].max()
            assert np.sqrt(variance[place]) > 0.97 * np.sqrt(most)


def test_fit_finds_what_the_function_depends_on_and_its_noise():
    random = np.random.default_rng(0)
    x = random.random((60, 2))
    y = np.sin(6 * x[:, 0]) + 0.1 * random.standard_normal(60)
    y = (y - y.mean()) / y.std()
    inputs = Inputs(axes=(0, 1), warped=(False, False))
    found = gaussian_process.fit(x, y, inputs)
    assert found[1] > found[0] + 2  # the second axis does nothing
    deviation = 0.1 / np.sqrt(0.5 + 0.01)
    assert math.exp(found[3] / 2) == pytest.approx(deviation, rel=0.5)
    _, gradient = gaussian_process.loss_and_gradient(
        found, *gaussian_process.padded(x, y), inputs=inputs
    )
    inside = (found > inputs.bounds[:, 0]) & (found < inputs.bounds[:, 1])
    assert np.abs(gradient)[inside].max() < 0.05


def test_sizes_are_few():
    sizes = {len(gaussian_process.padded(np.zeros((n, 1)), np.zeros(n))[0]) for n in range(1, 1000)}
    assert sorted(sizes) == [32, 64, 128, 256, 384, 512, 768, 1024]


def test_observations_are_scaled_and_failures_are_bad():
    random = np.random.default_rng(0)
    scores = np.exp(2 * random.standard_normal(200))
    y = observations(np.append(scores, [math.nan, math.inf, 1e300]))
    assert y.mean() == pytest.approx(0, abs=1e-12) and y.std() == pytest.approx(1)
    assert (y[-3:] == y.max()).all() and abs(stats.skew(y)) < 0.5
    order = np.argsort(scores)
    assert (np.diff(y[:-3][order]) >= 0).all()
    assert np.ptp(y[:-3][order[:100]]) > 0.5  # what is huge does not hide how good ones differ
    for scores in ([3.0], [2.0, 2.0, math.nan], [-1e200, 5.0, 1e308]):
        assert np.isfinite(observations(np.array(scores))).all()


def history(space, count, score, seed=0):
    units = np.random.default_rng(seed).random((count, space.size))
    values = [space.decode(unit) for unit in units]
    return [
        Trial(n, Proposal(value), 1, [{"score": score(value)}], FINISHED)
        for n, value in enumerate(values)
    ]


def quadratic(values):
    return (values["x"] - 0.8) ** 2 + (values["y"] - 0.1) ** 2 + (values["z"] == "a")


@both
def test_a_batch_is_good_and_spreads(worth):
    trials = history(SPACE, 20, quadratic)
    points = [SPACE.decode(unit) for unit in bayesian.propose(SPACE, trials, 8, 0, worth)]
    assert min(map(quadratic, points)) < 0.02
    assert np.mean([point["z"] == "b" for point in points]) > 0.6
    places = np.array([SPACE.encode(point) for point in points])
    distances = np.abs(places[:, None] - places[None]).max(-1)
    assert distances[np.triu_indices(8, 1)].min() > 0.009


@both
def test_running_trials_keep_others_away(worth):
    trials = history(SPACE, 20, quadratic)
    first = SPACE.decode(bayesian.propose(SPACE, trials, 1, 0, worth)[0])
    again = [*trials, Trial(20, Proposal(first), 1, [], RUNNING)]
    second = SPACE.decode(bayesian.propose(SPACE, again, 1, 0, worth)[0])
    assert max(abs(first["x"] - second["x"]), abs(first["y"] - second["y"])) > 0.009


@both
def test_where_trials_diverged_none_are_proposed(worth):
    trials = history(SPACE, 24, quadratic)
    for trial in trials:
        if trial.values["z"] == "b":  # which holds the least, were it not to diverge
            trial.end = DIVERGED
    points = [SPACE.decode(unit) for unit in bayesian.propose(SPACE, trials, 8, 0, worth)]
    assert np.mean([point["z"] == "a" for point in points]) > 0.6


def test_rows_of_one_trial_are_one_row():
    space = Space(
        (
            Axis("choice", "rule", values=("a", "b", "c")),
            Axis("linear", "x", 0.0, 1.0, when=("rule", "b")),
            Axis("integer", "n", 1, 4),
            Axis("choice", "deep", values=(1, 2), when=("rule", "c")),
            Axis("linear", "deeper", 0.0, 1.0, when=("deep", 2)),
        )
    )
    columns = bayesian._Columns(space)
    units = np.random.default_rng(0).random((300, 5))
    rows, free = columns.encode(units)
    by_values = {}
    for unit, row, moves in zip(units, rows, free, strict=True):
        values = space.decode(unit)
        assert space.decode(columns.decode(row[None])[0]) == values
        np.testing.assert_allclose(columns.encode(space.encode(values)[None])[0][0], row)
        assert moves.sum() == ("x" in values) + ("deeper" in values)
        values = {key: value for key, value in values.items() if key not in ("x", "deeper")}
        row = np.delete(row, [3, 7])
        np.testing.assert_array_equal(by_values.setdefault(repr(values), row), row)
    rules = np.unique(rows[:, :3], axis=0)
    assert np.linalg.norm(rules[:, None] - rules[None], axis=-1)[0, 1] == pytest.approx(1)


def test_a_surrogate_tells_scores_and_the_best_under_noise():
    random = np.random.default_rng(0)
    trials = history(SPACE, 50, lambda values: quadratic(values) + 0.1 * random.standard_normal())
    trials[7].end = DIVERGED
    surrogate = Surrogate(SPACE, trials)
    lucky = min((t for t in trials if t.end != DIVERGED), key=lambda trial: trial.score)
    assert quadratic(surrogate.best().values) <= quadratic(lucky.values)
    units = np.random.default_rng(1).random((50, 3))
    mean, deviation = surrogate.predict(units)
    truth = np.array([quadratic(SPACE.decode(unit)) for unit in units])
    assert np.corrcoef(surrogate.score(mean), truth)[0, 1] > 0.9
    assert (deviation > 0).all() and mean.dtype == np.float64


def test_the_rest_of_the_process_stays_in_float32():
    with jax.enable_x64(False):
        bayesian.propose(SPACE, history(SPACE, 20, quadratic), 1, 0, IMPROVEMENT)
        assert jnp.ones(3).dtype == jnp.float32
        assert jax.jit(lambda x: x * 2)(np.ones(3)).dtype == jnp.float32
