"""Populations: lanes are runs alone; nothing is compiled twice; neighbours do not touch."""

import contextlib
import dataclasses
import math
import os
import re
import subprocess
import sys

import jax
import jax.monitoring
import lanes_worker
import numpy as np
import pytest
from conftest import ROOT

from research.config import default_config
from research.data import identity
from research.errors import UserError
from research.training import advance, evaluation, setup
from research.training.metrics import values as reported
from research.tuning import folds, results
from research.tuning.config import default_search
from research.tuning.population import Population, factory
from research.tuning.trials import STOPPED, Proposal, Trial

STEPS, SEGMENTS = 9, 3
# Less to compile, where it does not matter what is trained.
PLAIN = {
    "data.name": "moons",
    "model.normalization": "none",
    "model.dropout_rate": 0.0,
    "optimizer.name": "momentum",
}
RATES = {"optimizer.learning_rate": 3e-3}


def small(**changes):
    config = default_config()
    config.duration = f"{STEPS} steps"
    config.batch_size = 32
    config.model.hidden = (8,)
    config.model.dropout_rate = 0.2
    config.schedule.warmup = "20 percent"
    config.update_from_flattened_dict(changes)
    return config


def population_of(mode="sequential", slots=3, compiled=True, **options):
    changes = options.pop("changes", {})
    population = Population(small(**changes), slots, segments=SEGMENTS, mode=mode, **options)
    if compiled:
        population.compile()
    return population


def run_alone(config, values, part=None):
    """What `research.main` makes of a config with these values, after each segment."""
    config = config.copy_and_resolve_references()
    config.update_from_flattened_dict(values)
    if part is None:
        run = setup.from_config(config)
    else:
        run = setup.from_split(config, setup.loaded(config), *part)
    state = run.init()
    program = advance.over_arrays(run, state)
    evaluate = evaluation.compiled_evaluator(config, run.task, run.validation, state)
    total = run.plan().total_steps
    found = []
    for segment in range(SEGMENTS):
        steps = round(total * (segment + 1) / SEGMENTS) - round(total * segment / SEGMENTS)
        state, metrics = program(state, steps)
        record = reported(run.task, jax.device_get(evaluate(state)))
        found.append((jax.device_get(state), jax.device_get(metrics), record))
    return found


def same(a, b, **tolerance):
    check = np.testing.assert_allclose if tolerance else np.testing.assert_array_equal
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(lambda a, b: check(a, b, **tolerance), a, b)


@contextlib.contextmanager
def compilations():
    """Counts what XLA is asked to compile."""
    found = []

    def note(event, duration, **_):
        if event == "/jax/core/compile/backend_compile_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(note)
    try:
        yield found
    finally:
        jax.monitoring.unregister_event_duration_listener(note)


@pytest.fixture(scope="module")
def sequential():
    return population_of()


def test_a_lane_is_the_run_alone_to_the_bit(sequential):
    values = {**RATES, "seed": 7, "model.dropout_rate": 0.4}
    sequential.start(0, {"optimizer.learning_rate": 1.0}, SEGMENTS)
    sequential.start(1, values, SEGMENTS)
    for state, metrics, record in run_alone(small(), values):
        report = sequential.advance([0, 1])[1]
        same(sequential.states(1)[0], state)
        assert report.step == state.step and report.finite
        total, weight = metrics.sums.means["loss"]
        assert report.train["loss"] == [float(total) / int(weight)]
        assert report.validation["accuracy"] == [record["accuracy"]]
        assert report.validation["loss"] == pytest.approx([record["loss"]], rel=1e-6)


@pytest.fixture(scope="module")
def stacked():
    return population_of("vmap", slots=3)


def test_stacked_lanes_are_runs_alone_to_rounding(stacked):
    """Of different numbers, and of different lengths: 3, 3 and 2 of 3 segments."""
    trials = [RATES, {"seed": 3, "model.dropout_rate": 0.0}, {"optimizer.learning_rate": 1e-2}]
    for slot, (values, segments) in enumerate(zip(trials, (3, 3, 2), strict=True)):
        stacked.start(slot, values, segments)
    for slots in ([0, 2], [0, 2], [0, 1], [1], [1]):
        stacked.advance(slots)
    for slot, config in ((1, small()), (2, small(duration="6 steps"))):
        state = run_alone(config, trials[slot])[-1][0]
        # On digits some pixels are constant: Adam's first steps there are the sign of nothing.
        same(stacked.states(slot)[0].opt_state, state.opt_state, rtol=1e-3, atol=1e-5)
        assert stacked.states(slot)[0].step == state.step


@pytest.mark.parametrize("kind", ["sequential", "stacked"])
def test_nothing_is_compiled_after_compile(kind, request):
    """Starts, refills in the middle, copies, parks, all lengths; and each does what it says."""
    population = request.getfixturevalue(kind)
    with compilations() as found:
        for slot in range(3):
            population.start(slot, {**RATES, "seed": slot}, SEGMENTS)
        first = population.advance([0, 1, 2])
        population.start(1, {"seed": 9}, 1)
        population.advance([1, 2])
        before = population.states(0)
        parked = population.park(0)
        population.start(0, {"loss.l2": 0.0}, 2)
        population.advance([0])
        population.unpark(1, parked)
        same(population.states(1), before)
        population.copy(2, 1, {"optimizer.learning_rate": 0.5})
        again = population.advance([1, 2])
        (copied,) = population.states(2)
        assert copied.hyperparameters["optimizer"]["learning_rate"] == np.float32(0.5)
        assert copied.hyperparameters["seed"] == 0
        assert copied.step == again[1].step == 2 * first[0].step
    assert found == []
    with compilations() as found:
        jax.jit(lambda x: x + len(kind))(1.0)
    assert len(found) == 1, "this counts compilations"


@pytest.mark.parametrize("kind", ["sequential", "stacked"])
def test_idle_slots_stay_as_they_are_to_the_bit(kind, request):
    population = request.getfixturevalue(kind)
    for slot in range(3):
        population.start(slot, {"seed": slot}, SEGMENTS)
    population.advance([0, 1, 2])
    before = population.states(1)
    population.advance([0, 2])
    same(population.states(1), before)


@pytest.mark.parametrize("kind", ["sequential", "stacked"])
def test_a_lane_that_diverges_leaves_its_neighbours_alone(kind, request):
    population = request.getfixturevalue(kind)
    numbers = [{"seed": 1}, {"model.initializer_scale": math.inf}, {"seed": 2}]
    good = {"model.initializer_scale": 1.0}
    found = []
    for middle in (good, numbers[1]):
        for slot, values in enumerate((numbers[0], middle, numbers[2])):
            population.start(slot, values, SEGMENTS)
        reports = population.advance([0, 1, 2])
        found.append((reports, population.states(0), population.states(2)))
    (before, *healthy), (after, *beside) = found
    assert [before[slot].finite for slot in range(3)] == [True] * 3
    assert [after[slot].finite for slot in range(3)] == [True, False, True]
    assert before[0] == after[0] and before[2] == after[2]
    same(beside, healthy)


@pytest.mark.parametrize("mode", ["sequential", pytest.param("vmap", marks=pytest.mark.slow)])
def test_lanes_of_folds_are_runs_alone_on_their_rows(mode):
    """Folds of unequal size, preprocessing of each its own; two seeds of each."""
    changes = {**PLAIN, "preprocessing.name": "per_pixel", "data.toy_examples": 101}
    changes["duration"] = "3 epochs"  # of 67 or 68 examples: as many as the fold has
    population = population_of(mode, slots=1, folds=3, seeds=2, changes=changes)
    population.start(0, RATES, SEGMENTS)
    reports = [population.advance([0])[0] for _ in range(SEGMENTS)]
    config = small(**changes)
    labels = setup.loaded(config).train.labels
    parts = folds.cut(config, labels, folds=3, repeats=1)
    assert sorted(len(training) for training, _ in parts) == [67, 67, 68]
    assert sorted(np.concatenate([rows for _, rows in parts])) == list(range(101))
    states = population.states(0)
    for lane in (0, 3, 5) if mode == "sequential" else (3,):
        state, (number, seed) = states[lane], divmod(lane, 2)
        alone = run_alone(config, {**RATES, "seed": seed}, parts[number])
        tolerance = {} if mode == "sequential" else {"rtol": 1e-3, "atol": 1e-5}
        same(state, alone[-1][0], **tolerance)
        for report, (_, metrics, record) in zip(reports, alone, strict=True):
            want = float(metrics.loss)
            assert report.train["loss"][lane] == pytest.approx(want, rel=1e-4)
            assert report.validation["loss"][lane] == pytest.approx(record["loss"], rel=1e-4)
            assert report.validation["accuracy"][lane] == record["accuracy"]


def test_auto_takes_one_of_the_sizes_and_trains():
    population = population_of("auto", slots=4, changes=PLAIN)
    for slot in range(4):
        population.start(slot, {"seed": slot}, SEGMENTS)
    found = population.advance(range(4))
    alone = run_alone(small(**PLAIN), {"seed": 3})[0][2]
    assert found[3].validation["loss"] == pytest.approx([alone["loss"]], rel=1e-4)


def test_lanes_over_devices_are_those_on_one_and_never_talk(tmp_path):
    file = tmp_path / "found.npz"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    command = [sys.executable, lanes_worker.__file__, str(file)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.load(file)
    for mode in lanes_worker.MODES:
        text = str(found[f"{mode} text"])
        assert "num_partitions=2" in text
        talk = r"all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter"
        assert not re.search(talk, text)
        alone, _ = lanes_worker.train(mode)
        for name, want in alone.items():
            tolerance = {"rtol": 0 if mode == "sequential" else 1e-4, "atol": 0}
            if mode == "vmap":
                tolerance["atol"] = 1e-6
            np.testing.assert_allclose(found[f"{mode} {name}"], want, **tolerance)


def test_what_is_trained_again_is_what_the_schedule_saw():
    """Of a trial of 2 of 3 segments that was stopped after one, in folds of unequal size."""
    config = small(**PLAIN, **{"data.toy_examples": 101, "batch_size": 8, "duration": "5 epochs"})
    population = Population(config, 1, segments=SEGMENTS, folds=3, mode="sequential")
    config = config.copy_and_resolve_references()
    config.search = default_search()
    config.search.segments = SEGMENTS
    population.compile()
    population.start(0, RATES, 2)
    report = dataclasses.asdict(population.advance([0])[0]) | {"segment": 1}
    trial = Trial(0, Proposal(RATES), 2, [report], STOPPED)
    seen = population.states(0)[0].hyperparameters["schedule"]["duration"]
    assert results.as_config(config, trial).duration == f"{seen:.0f} steps"
    assert report["step"] < seen < 3 * report["step"]


def test_nothing_of_a_validation_split_is_in_the_statistics():
    """Examples far from all others change the statistics of the folds that train on them alone."""
    config = small(**{"data.name": "moons", "data.toy_examples": 60})
    dataset = setup.loaded(config)
    parts = folds.cut(config, dataset.train.labels, folds=3, repeats=2)
    found = folds.load(config, folds=3, repeats=2)
    assert len(found) == 6
    for number, (training, validation) in enumerate(parts):
        spoilt = dataset.train.inputs.copy()
        spoilt[validation] = 1e6
        changed = dataclasses.replace(dataset.train, inputs=spoilt)
        run = setup.from_split(
            config, dataclasses.replace(dataset, train=changed), training, validation
        )
        same(found.own(found.arrays, number)["statistics"], run.statistics)


def test_data_are_loaded_once_for_all_programs_of_a_search():
    made = factory()
    plain = {"preprocessing.name": "per_channel"}
    first, other, again = (
        made(small(**changes), 1, folds=3, segments=SEGMENTS).folds
        for changes in (plain, {"preprocessing.name": "per_pixel"}, {**plain, "batch_size": 16})
    )
    assert first.dataset is other.dataset is again.dataset
    assert again.run.config.batch_size == 16
    # Fitted anew where it has to be, to what it would be alone.
    alone = folds.load(small(**{"preprocessing.name": "per_pixel"}), folds=3)
    same(other.arrays, alone.arrays)
    same(first.arrays, again.arrays)
    assert again.fitted(small(**plain).preprocessing, 0) is not None
    assert other.fitted(small(**plain).preprocessing, 0) is None


def test_folds_have_the_fingerprint_of_their_data_and_of_their_cut():
    config = small(**PLAIN)
    found = folds.load(config, folds=3, repeats=2).fingerprint()
    assert found == folds.fingerprint(config, folds=3, repeats=2)
    other = small(**PLAIN, **{"data.split_seed": 1})
    for told, cut in (
        (["train and validation are cut otherwise"], folds.fingerprint(config, 3, 2, False)),
        (["train and validation are cut otherwise"], folds.fingerprint(config, 3, 1)),
        (["train has other labels", "test has other labels"], folds.fingerprint(other, 3, 2)),
    ):
        assert identity.differences(found, cut)[: len(told)] == told


def test_leave_one_out_has_one_cut():
    with pytest.raises(UserError, match=r"search.repeats = 2: leave-one-out .*search.seeds"):
        folds.cut(small(), np.array([0, 0, 1, 1]), folds=4, repeats=2)


def test_leave_one_out_has_a_lane_for_each_example():
    changes = {**PLAIN, "data.toy_examples": 12, "batch_size": 4}
    population = population_of("vmap", slots=1, folds=12, changes=changes)
    population.start(0, {}, SEGMENTS)
    report = population.advance([0])[0]
    assert set(report.validation["accuracy"]) <= {0.0, 1.0} and len(report.validation["loss"]) == 12


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"ensemble.members": 2}, "ensemble.members = 2"),
        ({"parallel.mode": "pmap"}, "parallel.mode = 'pmap'"),
        ({"averaging.name": "ema"}, "averaging.name = 'ema'"),
        ({"data.validation": 0.0}, "data.validation = 0.0"),
        ({"duration": "2 steps"}, "duration = '2 steps'"),
    ],
)
def test_what_has_no_meaning_in_a_population_is_refused(changes, said):
    with pytest.raises(UserError, match=said) as caught:
        population_of(changes=changes, compiled=False)
    assert "\n" not in str(caught.value) and "allowed" in str(caught.value)


def test_other_sizes_are_compiled_only_where_they_can_pay():
    population = population_of("auto", slots=4, compiled=False, changes=PLAIN)
    with compilations() as found:
        population.compile(turns=1e-6)
    assert population.chunk == 1
    few = len(found)
    with compilations() as found:
        population.compile(turns=1e9)
    assert len(found) == few + 1


def test_what_it_costs_is_told_and_a_measured_choice_can_be_held_to():
    changes = {"data.name": "moons", "model.dropout_rate": 0.0}
    population = population_of(slots=4, mode="auto", compiled=False, changes=changes)
    # 2-8-2 with batch norm; Adam's two moments; hyper-parameters and counts.
    assert population.parameters() == 2 * 8 + 2 * 8 + 8 * 2 + 2
    assert population.fitting() > 1000
    population.compile(chunk=3)
    assert population.chunk == 3
    assert 4 * 4 * 3 * population.parameters() < population.memory() < 2**24
    assert 0 < population.seconds() < 1
    for slot in range(4):
        population.start(slot, {"seed": slot}, SEGMENTS)
    assert population.advance(range(4))[3].finite
