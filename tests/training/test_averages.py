"""Averaged weights against means written out in float64, alone, in lanes, cut and recalibrated."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import default_config
from research.data.dataset import Arrays
from research.data.feed import to_device
from research.training import averages, evaluation, executors, recalibration, setup
from research.training.step import make_train_step

STEPS = 25


def small(name, **changes):
    config = default_config()
    config.data.name = "spirals"
    config.data.toy_examples = 200
    config.batch_size = 20
    config.duration = f"{STEPS} steps"
    config.model.hidden = (8,)
    config.averaging.name = name
    config.update_from_flattened_dict({f"averaging.{key}": value for key, value in changes.items()})
    return setup.from_config(config)


def program(run):
    data = to_device(run.train.inputs, run.train.labels)
    train = executors.resident(make_train_step(run.config, run.task), run.config.batch_size)
    return jax.jit(lambda state, steps: train(state, data, steps)[0])


@pytest.fixture(scope="module")
def trajectory():
    """Every state of a run without an average, from after the first update on."""
    run = small("none")
    advance, states = program(run), [run.init()]
    for _ in range(STEPS):
        states.append(advance(states[-1], 1))
    return states[1:]


def mean_of(trajectory, weights):
    """sum_k weights[k] * state_k, in float64."""
    assert np.sum(weights) == pytest.approx(1)

    def total(*leaves):
        return sum(
            w * np.asarray(leaf, np.float64) for w, leaf in zip(weights, leaves, strict=True)
        )

    return jax.tree.map(total, *[(state.params, state.batch_stats) for state in trajectory])


def check(state, trajectory, weights):
    found = state.averages["params"], state.averages["batch_stats"]
    jax.tree.map(
        lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6),
        found,
        mean_of(trajectory, weights),
    )


def by_shares(shares):
    """What weights come to count when each becomes a share of the average in turn."""
    kept = np.append(np.cumprod(1 - shares[::-1])[::-1][1:], 1.0)  # by all that follow
    return shares * kept


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.999])
def test_the_exponential_average(trajectory, decay):
    run = small("ema", decay=decay)
    state = program(run)(run.init(), STEPS)
    shares = np.array([max(1 - decay, 10 / (k + 10)) for k in range(STEPS)])
    check(state, trajectory, by_shares(shares))
    jax.tree.map(np.testing.assert_array_equal, state.params, trajectory[-1].params)


def test_the_warm_up_is_polynomial_decay():
    """Shamir and Zhang (2013): weights of step k count by (k + 8)! / (k - 1)!, so by k ** 9."""
    weights = by_shares(np.array([10 / (k + 10) for k in range(30)]))
    k = np.arange(1, 31)
    wanted = np.prod([k + i for i in range(9)], axis=0, dtype=float)
    np.testing.assert_allclose(weights, wanted / wanted.sum(), rtol=1e-9)


@pytest.mark.parametrize(
    ("start", "every", "steps"),
    [
        ("10 steps", "5 steps", [10, 15, 20, 25]),
        ("10 steps", "4 steps", [10, 14, 18, 22]),
        ("12 steps", "2.5 steps", [12, 15, 17, 20, 22, 25]),  # the first at or after each multiple
        ("40 percent", "1 epochs", [10, 19]),  # of 9 steps
        ("100 percent", "1 steps", [25]),
        ("30 steps", "1 steps", [25]),  # not begun: the weights themselves
        ("0 steps", "1 steps", list(range(1, 26))),
    ],
)
def test_the_stochastic_weight_average(trajectory, start, every, steps):
    run = small("swa", start=start, every=every)
    state = program(run)(run.init(), STEPS)
    weights = np.isin(np.arange(1, STEPS + 1), steps) / len(steps)
    check(state, trajectory, weights)
    assert int(state.averages["count"]) == len(steps)
    if len(steps) == 1:
        jax.tree.map(np.testing.assert_array_equal, state.averages["params"], state.params)


def test_switched_off_there_is_none():
    run = small("none")
    assert run.init().averages == {} == program(run)(run.init(), 2).averages


@pytest.mark.parametrize("name", ["ema", "swa"])
def test_cut_into_dispatches_the_bits_are_the_same(name):
    run = small(name, start="5 steps", every="3 steps")
    advance = program(run)
    cut = advance(advance(run.init(), 11), 14)
    jax.tree.map(np.testing.assert_array_equal, cut.averages, advance(run.init(), 25).averages)


def test_lanes_of_a_vmap_have_their_own_averages():
    run = small("ema")
    advance, state = program(run), run.init()

    def lane(decay):
        numbers = state.hyperparameters | {"averaging": {"decay": decay}}
        return advance(state.replace(hyperparameters=numbers), STEPS).averages["params"]

    decays = jnp.asarray([0.0, 0.5, 0.9])
    together = jax.jit(jax.vmap(lane))(decays)
    for number, decay in enumerate(decays):
        jax.tree.map(
            lambda many, one, number=number: np.testing.assert_allclose(
                many[number], one, rtol=1e-4, atol=1e-5
            ),
            together,
            lane(decay),
        )


@pytest.mark.parametrize("recalibrated", [0, 60])
def test_averaged_weights_are_evaluated_beside_the_raw_ones(recalibrated):
    run = small("ema", recalibration_examples=recalibrated)
    run.config.compute.evaluation_batch_size = 20
    state = program(run)(run.init(), STEPS)
    found = evaluation.validation_evaluator(run, state)(state)
    assert list(found) == ["validation", "validation_averaged"]
    by_hand = averages.averaged(state)
    if recalibrated:
        sample = Arrays(run.spread(60), np.zeros(60, np.int32))
        by_hand = recalibration.recalibrate(run.config, run.task, by_hand, sample)
    for split, of in (("validation", state), ("validation_averaged", by_hand)):
        wanted = evaluation.evaluate(run.config, run.task, of, run.validation)
        assert float(found[split].loss) == pytest.approx(wanted["loss"], rel=1e-5)
    tested = evaluation.whole_average(run, state).batch_stats
    if not recalibrated:
        jax.tree.map(np.testing.assert_array_equal, tested, state.averages["batch_stats"])
    else:
        of_all = recalibration.recalibrate(run.config, run.task, by_hand, run.train)
        jax.tree.map(np.testing.assert_array_equal, tested, of_all.batch_stats)


def test_without_batch_norm_there_is_nothing_to_recalibrate():
    run = small("swa")
    run.config.model.normalization = "none"
    state = program(run)(run.init(), 2)
    found = evaluation.validation_evaluator(run, state)(state)
    assert float(found["validation_averaged"].loss) == float(found["validation"].loss)


def test_after_recalibration_a_batch_has_one_loss_in_training_and_evaluation():
    """The difference of train and eval mode, before and after, where the batch is all there is."""
    run = small("none")
    state = run.init()  # whose running statistics are of nothing yet
    kernel = jax.random.normal(jax.random.key(0), state.params["head"]["kernel"].shape)
    head = state.params["head"] | {"kernel": kernel}
    state = state.replace(params=state.params | {"head": head})
    batch = run.train.load(np.arange(64))
    before = recalibration.train_and_eval_loss(run.config, run.task, state, batch)
    assert abs(before[0] - before[1]) > 1e-2
    anew = recalibration.recalibrate(run.config, run.task, state, batch)
    own, after = recalibration.train_and_eval_loss(run.config, run.task, anew, batch)
    assert own == pytest.approx(before[0], rel=1e-6) and after == pytest.approx(own, rel=1e-5)


def test_swa_from_the_start_is_never_the_zeros_it_began_with(trajectory):
    run = small("swa", start="0 steps", every="10 steps")
    state = program(run)(run.init(), 3)
    first = trajectory[0].params
    jax.tree.map(np.testing.assert_array_equal, state.averages["params"], first)


def test_statistics_that_training_kept_are_kept_for_the_average_too():
    run = small("ema")
    run.config.model.freeze_batch_stats = True
    state = run.init()
    state = state.replace(averages=state.averages | {"params": state.params})
    evaluator = evaluation.validation_evaluator(run, state)
    evaluator(state)
    averaged = evaluation.whole_average(run, state)
    jax.tree.map(np.testing.assert_array_equal, averaged.batch_stats, state.averages["batch_stats"])
