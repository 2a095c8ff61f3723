"""Metrics on their way: sums that add up, in checkpoints of today and of earlier versions."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tasks.parts import task_of

from research.training import metrics
from research.training.metrics import NEVER, StepMetrics, Sums


def drawn(seed, members=0, bad=NEVER):
    """Return the metrics of some steps: a mean, a count and an array."""
    random = np.random.default_rng(seed)

    def means(*shape):
        return {
            "loss": (
                random.normal(size=shape).astype(np.float32),
                random.integers(1, 99, shape).astype(np.int32),
            ),
            "macro_f1": (
                random.integers(0, 9, (*shape, 2, 2)).astype(np.int32),
                random.integers(1, 9, shape).astype(np.int32),
            ),
        }

    def whole(number):
        return np.int32(number)

    return StepMetrics(
        sums=Sums(means(), means(members) if members else {}),
        examples=whole(32 + seed),
        learning_rate=np.float32(0.1 + seed),
        skipped=whole(seed),
        first_nonfinite_step=whole(bad),
    )


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)
    assert [x.dtype for x in jax.tree.leaves(a)] == [x.dtype for x in jax.tree.leaves(b)]


@pytest.mark.parametrize("members", [0, 3])
def test_a_checkpoint_gives_back_every_bit(members):
    found = drawn(1, members)
    saved = json.loads(json.dumps(metrics.to_json(jax.tree.map(jnp.asarray, found))))
    equal(metrics.from_json(saved), found)


@pytest.mark.parametrize("members", [0, 3])
def test_joining_is_on_the_host_what_it_is_on_the_device(members):
    first, second = drawn(1, members, bad=9), drawn(2, members, bad=4)
    joined = metrics.join(first, second, np)
    assert joined.examples == 67 and joined.skipped == 3 and joined.first_nonfinite_step == 4
    assert joined.learning_rate == second.learning_rate
    equal(jax.device_get(jax.jit(metrics.join)(first, second)), joined)
    empty = jax.device_get(metrics.zeros(first))
    assert empty.first_nonfinite_step == NEVER
    equal(metrics.join(empty, first, np), first)


NUMBERS = {"learning_rate": 0.25, "skipped": 1, "first_nonfinite_step": NEVER}


def test_a_window_of_an_earlier_version_is_read():
    """It had sums by the names of classification."""
    task = task_of("classification", "ab")
    sums = {"loss": 40.5, "correct": 60, "count": 81, **NUMBERS}
    window = json.loads(json.dumps({"sums": sums, "seconds": 1.5}))
    found = metrics.as_saved_now(window)
    assert found["seconds"] == 1.5 and metrics.as_saved_now(found) is found
    assert window == {"sums": sums, "seconds": 1.5}  # is left as it was
    found = metrics.from_json(found["metrics"])
    assert metrics.values(task, found.sums) == {"loss": 0.5, "accuracy": 60 / 81}
    assert (found.examples, found.skipped, found.learning_rate) == (81, 1, 0.25)
    assert found.first_nonfinite_step == NEVER
    today = StepMetrics(
        Sums({"loss": (np.float32(40.5), np.int32(81)), "accuracy": (np.int32(60), np.int32(81))}),
        np.int32(81), np.float32(0.25), np.int32(1), np.int32(NEVER),
    )  # fmt: skip
    equal(found, today)  # so that the steps after it can be joined


def test_a_window_of_an_earlier_ensemble_is_read():
    task = task_of("classification", "ab")
    sums = {"loss": 30.0, "correct": 12, "count": 20, **NUMBERS}
    sums |= {"member_loss": [10.0, 20.0], "member_correct": [7, 5], "member_count": [10, 10]}
    found = metrics.from_json(metrics.as_saved_now({"sums": sums, "seconds": 1.0})["metrics"])
    assert metrics.values(task, found.sums) == {
        "loss": 1.5,
        "accuracy": 0.6,
        "members": {"loss": [1.0, 2.0], "accuracy": [0.7, 0.5]},
    }
    assert found.examples == 20


def test_what_modules_sow_is_a_mean_over_batches_and_calls():
    task = task_of("classification", "ab")
    first = metrics.sown({"Dense_0": {"norm": (jnp.float32(1), jnp.float32(2))}})
    second = metrics.sown({"Dense_0": {"norm": (jnp.float32(6), jnp.float32(3))}})
    total = metrics.add(Sums(first), Sums(second))
    assert metrics.values(task, jax.device_get(total)) == {"Dense_0/norm": 3.0}
    by_unit = Sums(metrics.sown({"kinds": (jnp.array([1.0, 3.0]),)}))
    assert metrics.values(task, jax.device_get(by_unit)) == {"kinds": [1.0, 3.0]}
    assert metrics.sown({}) == {}


def test_values_of_members_are_those_of_each_alone():
    task = task_of("classification", "ab", metrics=("macro_f1", "recall"))
    found = drawn(3, members=2).sums
    reported = metrics.values(task, found)
    for member in range(2):
        alone = Sums(jax.tree.map(lambda leaf, m=member: leaf[m], found.members))
        for name, value in metrics.values(task, alone).items():
            assert reported["members"][name][member] == value
    assert reported["members"].keys() == {"loss", "macro_f1"}
