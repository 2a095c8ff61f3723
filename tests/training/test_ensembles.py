"""Ensembles: members are runs alone, predictions are averaged, snapshots are ends of cycles."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import ACCURACY

from research import tasks
from research.config import default_config
from research.data.dataset import Records
from research.errors import UserError
from research.optimizers import learning_rate
from research.training import (
    advance,
    ensembles,
    evaluation,
    lanes,
    loop,
    scores,
    setup,
)
from research.training.checkpoints import Checkpoints
from research.training.copies import copied
from research.training.metrics import Sums, values

STEPS = 6


def small(**changes):
    config = default_config()
    config.duration = f"{STEPS} steps"
    config.batch_size = 32
    config.model.hidden = (8,)
    config.model.dropout_rate = 0.2
    config.augmentation.names = ("crop",)
    config.update_from_flattened_dict(changes)
    return setup.from_config(config)


def with_seed(run, seed):
    config = run.config.copy_and_resolve_references()
    config.seed, config.ensemble.members = seed, 1
    return dataclasses.replace(run, config=config)


def close(a, b, **tolerance):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, **tolerance), a, b)


@pytest.fixture(scope="module")
def alone():
    """Three runs one after the other: initial states, last states and metrics."""
    run = small()
    initial = [with_seed(run, 5 + number).init() for number in range(3)]
    kept = jax.tree.map(np.asarray, initial)
    program = advance.over_arrays(with_seed(run, 5), initial[0])  # one program: seeds are traced
    ended = [program(state, STEPS) for state in initial]
    return run, kept, ended


@pytest.mark.parametrize("how", ["vmap", "map"])
def test_members_are_the_runs_of_their_seeds_alone(how, alone):
    """On digits with batch norm, dropout and augmentation: weights, metrics and evaluation."""
    run, initial, ended = alone
    run = small(**{"ensemble.members": 3, "ensemble.lane_mode": how, "seed": 5})
    state = run.init()
    assert state.step.shape == ()
    for number in range(3):
        close(ensembles.member(state, number), initial[number], rtol=0, atol=0)
    state, metrics = advance.over_arrays(run, state)(state, STEPS)
    for number, (one, of_one) in enumerate(ended):
        # On digits some pixels are constant: Adam's first steps there are the sign of nothing.
        close(ensembles.member(state, number), one, rtol=1e-4, atol=1e-5)
        members, own = metrics.sums.members, of_one.sums.means
        assert members["loss"][0][number] == pytest.approx(float(own["loss"][0]), rel=1e-5)
        assert members["accuracy"][0][number] == own["accuracy"][0]
    records = values(run.task, jax.device_get(metrics.sums))
    alone = [values(run.task, jax.device_get(of_one.sums)) for _, of_one in ended]
    assert records["loss"] == pytest.approx(np.mean([record["loss"] for record in alone]))
    assert records["members"]["accuracy"] == [record["accuracy"] for record in alone]
    assert int(metrics.examples) == int(metrics.sums.means["loss"][1]) == 3 * STEPS * 32
    assert metrics.learning_rate == pytest.approx(float(ended[0][1].learning_rate))
    logits, _ = evaluation.predict_each(run.config, run.task, state, run.test)
    for number, (one, _) in enumerate(ended):
        want, _ = evaluation.predict_each(with_seed(run, 5).config, run.task, one, run.test)
        close(logits[number], want[0], rtol=1e-3, atol=1e-4)


def test_one_member_is_the_program_without_ensembles():
    run = small()

    def plain(state, data, steps):
        return state, None

    assert ensembles.together(run.config, plain) is plain
    sums = Sums({"loss": (1.0, 2), "accuracy": (1, 2)})
    assert values(run.task, sums) == {"loss": 0.5, "accuracy": 0.5}
    assert run.plan().snapshots == ()


def reference(logits, labels, bins=15):
    """Accuracy, log loss and ECE of averaged probabilities, in float64, as the papers write."""
    probabilities = np.zeros(logits.shape[1:])
    for one in logits.astype(np.float64):
        e = np.exp(one - one.max(1, keepdims=True))
        probabilities += e / e.sum(1, keepdims=True) / len(logits)
    loss = -np.mean([np.log(row[label]) for row, label in zip(probabilities, labels, strict=True)])
    hits, confidence = probabilities.argmax(1) == labels, probabilities.max(1)
    ece = 0.0
    for m in range(bins):
        here = (confidence > m / bins) & (confidence <= (m + 1) / bins)
        if here.any():
            ece += here.mean() * abs(hits[here].mean() - confidence[here].mean())
    return {"accuracy": hits.mean(), "loss": loss, "ece": ece}, probabilities


def test_probabilities_are_averaged_as_by_hand():
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (4, 200, 5)).astype(np.float32)
    labels = random.integers(0, 5, 200)
    want, probabilities = reference(logits, labels)
    task = tasks.build(default_config(), "abcde")
    each, together = scores.scored_in_parts(task, [(logits, labels)], {})
    assert task.figures(together) == pytest.approx(want, rel=1e-9)
    close(jax.nn.softmax(task.average(jnp.asarray(logits))), probabilities, rtol=1e-5)
    found = scores.compared(task, each, together, [{"seed": seed} for seed in range(4)])
    each = [reference(one[None], labels)[0] for one in logits]
    assert found["test_loss"] == pytest.approx(want["loss"])
    assert found["members"][2]["seed"] == 2
    for key in ("accuracy", "loss", "ece"):
        values = [one[key] for one in each]
        assert found["members_mean"][f"test_{key}"] == pytest.approx(np.mean(values))
        assert found["members_spread"][f"test_{key}"] == pytest.approx(np.std(values, ddof=1))
        assert [member[f"test_{key}"] for member in found["members"]] == pytest.approx(values)
    # Jensen: the mean of the probabilities is never worse than the mean of the losses.
    assert found["test_loss"] < found["members_mean"]["test_loss"]


def test_evaluation_of_a_population_is_that_of_averaged_probabilities():
    run = small(**{"ensemble.members": 3, "compute.evaluation_batch_size": 50})
    state = run.init()
    sums = jax.device_get(
        evaluation.compiled_evaluator(run.config, run.task, run.validation, state)(state)
    )
    logits, labels = evaluation.predict_each(run.config, run.task, state, run.validation)
    want, probabilities = reference(logits, labels)
    record = values(run.task, sums)
    assert record["loss"] == pytest.approx(want["loss"], rel=1e-5)
    assert record["accuracy"] == want["accuracy"]
    assert sums.means["accuracy"][1] == sums.means["loss"][1] == len(run.validation)
    each = [reference(one[None], labels)[0] for one in logits]
    assert record["members"]["loss"] == pytest.approx([one["loss"] for one in each], rel=1e-5)
    assert record["members"]["accuracy"] == [one["accuracy"] for one in each]
    found, _ = evaluation.predict(run.config, run.task, state, run.validation)
    close(found, probabilities, rtol=1e-4)


@pytest.mark.parametrize("how", [lanes.vmap, lanes.map, lanes.auto])
def test_lanes_take_any_tree_and_share_what_has_no_axis(how):
    def function(state, scale, shared):
        result = {"sum": state["x"].sum() * scale + shared, "shared": shared + 1}
        return result, state["count"] + 1

    state = {"x": jnp.arange(6.0).reshape(3, 2), "count": jnp.zeros((), jnp.int32)}
    axes = {"x": 0, "count": None}
    lifted = how(function, (axes, 0, None), ({"sum": 0, "shared": None}, None))
    found, count = jax.jit(lifted)(state, jnp.asarray([1.0, 2.0, 3.0]), 10.0)
    assert found["sum"].tolist() == [11, 20, 37] and found["shared"] == 11 and count == 1


def test_lanes_go_one_after_the_other_on_cpu():
    programs = [
        str(jax.make_jaxpr(how(lambda x: x @ x, (0,), 0))(jnp.ones((2, 3, 3))))
        for how in (lanes.auto, lanes.map, lanes.vmap)
    ]
    assert jax.default_backend() != "cpu" or programs[0] == programs[1]
    assert "scan" in programs[1] and "scan" not in programs[2]


def test_a_member_that_diverges_is_named():
    def of(*losses):
        return loop._of_members(Sums({}, {"loss": (np.array(losses), np.ones(len(losses)))}))

    assert of(1.0, np.nan, 2.0, np.inf) == " of members 1, 3"
    assert of(np.nan, 1.0) == " of member 0"
    assert loop._of_members(Sums({"loss": (np.nan, 1)})) == ""


def test_a_population_goes_on_from_a_checkpoint_to_the_same_bits(tmp_path):
    run = small(**{"ensemble.members": 2, "augmentation.names": ()})
    template = run.init()
    program = advance.over_arrays(run, template)
    half, _ = program(run.init(), 3)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(3, run.config, copied(half), {}, ACCURACY)
    whole, _ = program(half, 3)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore(lambda *_: template, 3)
    again, _ = program(restored, 3)
    jax.tree.map(np.testing.assert_array_equal, again, whole)
    # And a member that is not a number stops the run by its name.
    poisoned = jax.tree.map(lambda leaf: leaf.at[1].set(jnp.nan), whole.params)
    _, metrics = program(whole.replace(params=poisoned), 2)
    metrics = jax.device_get(metrics)
    assert metrics.first_nonfinite_step == 7
    assert loop._of_members(metrics.sums) == " of member 1"


CYCLES = {"schedule.name": "cosine_restarts", "ensemble.snapshots": 3, "schedule.cycles": 4.0}


@pytest.mark.parametrize("warmup", ["0 steps", "13 steps"])
@pytest.mark.parametrize("duration", [100, 103])
def test_snapshots_are_taken_where_the_rate_has_come_down(warmup, duration):
    run = small(**CYCLES, **{"duration": f"{duration} steps", "schedule.warmup": warmup})
    plan, numbers = run.plan(), run.init().hyperparameters
    assert len(plan.snapshots) == 3 and plan.snapshots[-1] == duration
    rate = jax.jit(lambda step: learning_rate(run.config, numbers, step))
    for end in plan.snapshots:  # the update to it had the least rate, the next starts high
        before, after = float(rate(end - 1)), float(rate(end))
        assert before < 0.02 * run.config.optimizer.learning_rate
        assert end == duration or after > 0.98 * run.config.optimizer.learning_rate
        assert plan.saves_at(end) and plan.evaluates_at(end)
    step, stops = 0, []
    while step < duration:
        step = plan.next_stop(step)
        stops.append(step)
    assert set(plan.snapshots) <= set(stops)


def test_snapshots_stay_and_one_that_is_damaged_is_left_out(tmp_path):
    run = small(**{"model.hidden": ()})
    state = run.init()
    with Checkpoints(tmp_path, snapshots=(2, 4)) as checkpoints:
        for step in range(1, 8):
            checkpoints.save(
                step, run.config, copied(state.replace(step=np.int32(step))), {}, ACCURACY
            )
    with Checkpoints(tmp_path, snapshots=(2, 4)) as checkpoints:  # and after a resume
        checkpoints.save(8, run.config, copied(state.replace(step=np.int32(8))), {}, ACCURACY)
    (tmp_path / "checkpoints" / "4" / "metadata.json").write_text("{}")
    told = []
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.steps() == [2, 4, 7, 8]
        found = checkpoints.restore_each(lambda *_: run.init(), (2, 3, 4), told.append)
    assert [int(state.step) for state in found] == [2]
    assert len(told) == 2 and "no checkpoint of step 3" in told[0] and "4 is damaged" in told[1]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ensemble.snapshots": 2}, "has none (allowed: 'cosine_restarts')"),
        ({**CYCLES, "ensemble.snapshots": 5}, "at most as many snapshots"),
        ({**CYCLES, "schedule.cycles": 3.5}, "whole cycles"),
        ({"ensemble.members": 2, "seed": 2**32 - 1}, "allowed: up to 1"),
        ({"ensemble.members": 2, "data.memory_mb": 0}, "come from disk in one order"),
        ({"ensemble.members": 2, "ensemble.lane_mode": "vmpa"}, "did you mean 'vmap'"),
        ({"ensemble.members": 0}, "at least 1"),
        ({"ensemble.members": 2, "transfer.checkpoint": "x"}, "start from seeds of their own"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(changes, words):
    with pytest.raises(UserError) as error:
        run = small(**changes)
        assert not isinstance(run.train, Records)
    assert words in str(error.value) and "\n" not in str(error.value)
