"""Numbers that are not finite: seen at once, named, skipped or rolled back."""

import signal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from runs import MAIN, lines, read, start_and_stop

from research.config import default_config
from research.data.feed import to_device
from research.data.shuffle import batch_indices
from research.training import advance, divergence, executors, loop, nonfinite, setup
from research.training.dispatch import Pace
from research.training.metrics import NEVER, StepMetrics, Sums
from research.training.program import Program
from research.training.step import make_train_step

POISON = 40  # the example whose gradient is not finite


def small(**changes):
    config = default_config()
    config.data.name = "spirals"
    config.data.toy_examples = 120
    config.batch_size = 16
    config.duration = "100 steps"
    config.model.hidden = (8, 8)
    config.model.normalization = "none"
    config.preprocessing.name = "none"
    config.update_from_flattened_dict(changes)
    return setup.from_config(config)


def poisoned(run):
    """One example of the training split is infinite."""
    run.train.inputs[POISON] = np.inf
    return run


def trained(run, steps: int, state=None):
    program = executors.resident(make_train_step(run.config, run.task), run.config.batch_size)
    data = to_device(run.train.inputs, run.train.labels)
    return jax.jit(program)(run.init() if state is None else state, data, np.int32(steps))


class Recorder(loop.Host):
    """Keeps records and the steps that are saved, without files."""

    def __init__(self):
        self.records, self.saved = [], []

    def write(self, record):
        self.records.append(record)

    def copy(self, state):
        return state

    def save(self, step, *_):
        self.saved.append(step)


def fit(run, host=None):
    """Return the last state of the loop, and all records."""
    state, host = run.init(), host or Recorder()
    program = Program(advance.over_arrays(run, state), jax.jit(divergence.healthy))
    return loop.fit(state, run.plan(), run.task, program, host, Pace(7)), host.records


def step_of_poison(run) -> int:
    """The first step whose batch holds the poison."""
    step = 0
    while POISON not in np.asarray(
        batch_indices(np.uint32(run.config.seed), step, run.config.batch_size, len(run.train))
    ):
        step += 1
    return step + 1


def test_what_is_not_finite_is_seen_in_every_part_of_the_state():
    state = small().init()
    assert divergence.healthy(state)
    for name in ("params", "opt_state"):
        leaves, structure = jax.tree.flatten(getattr(state, name))
        for number, leaf in enumerate(leaves):
            if jnp.issubdtype(leaf.dtype, jnp.floating):
                bad = [*leaves]
                bad[number] = leaf.at[(0,) * leaf.ndim].set(jnp.inf if number % 2 else jnp.nan)
                assert not divergence.healthy(
                    state.replace(**{name: jax.tree.unflatten(structure, bad)})
                )


def test_parameters_that_overflow_in_the_very_last_step_are_seen():
    """The loss of that step is taken before the update: it is finite."""
    run = small(**{"optimizer.name": "sgd", "optimizer.learning_rate": 1e38, "duration": "1 steps",
                   "schedule.name": "constant", "model.initializer_scale": 100.0})  # fmt: skip
    host = Recorder()
    with pytest.raises(loop.Diverged, match="gradients or parameters are not finite at step 1"):
        fit(run, host)
    assert not host.saved


def test_the_step_and_the_layer_are_found_by_training_again():
    run = poisoned(small())
    with pytest.raises(loop.Diverged) as error:
        fit(run)
    program = advance.over_arrays(run, run.init())
    step, layer, *_ = nonfinite.find(run, error.value, run.init(), program, lambda: False)
    assert step == step_of_poison(run) <= error.value.step
    assert layer == "Dense_0: its output"
    later = loop.Diverged("all is", 60, 50)
    assert nonfinite.find(run, later, run.init(), program, lambda: True)[:2] == (60, "")


def test_a_gradient_that_is_not_finite_is_traced_to_its_layer():
    """The loss is finite: sqrt has an infinite slope at 0, behind the second layer alone."""
    run = small(**{"model.activation": "tanh"})
    state = run.init()
    metrics = StepMetrics(Sums({"loss": (1.0, 1)}), 1, 0.1, skipped=0, first_nonfinite_step=NEVER)

    def step(state, batch):
        def objective(params):
            first = params["Dense_1"]["kernel"]
            return jnp.sqrt(jnp.square(first * 0).sum()) + params["head"]["kernel"].sum()

        gradients = jax.grad(objective)(state.params)
        params = jax.tree.map(lambda p, g: p - g, state.params, gradients)
        return state.replace(params=params, step=state.step + 1), metrics

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nonfinite, "make_train_step", lambda *_: step)
        assert nonfinite._of_step(run, state) == "Dense_1/kernel: its gradient"


def test_a_skipped_step_leaves_all_but_its_number_as_it_was():
    """Trained with the poison and skipping = trained on the other batches alone, by hand."""
    run = poisoned(small(on_divergence="skip_step"))
    state, metrics = trained(run, 30)
    step = jax.jit(make_train_step(small().config, run.task))
    by_hand, skipped, losses = run.init(), 0, 0.0
    for number in range(30):
        indices = np.asarray(batch_indices(np.uint32(0), number, 16, len(run.train)))
        if POISON in indices:
            skipped += 1
            by_hand = by_hand.replace(step=by_hand.step + 1)
            continue
        batch = {"inputs": run.train.inputs[indices], "labels": run.train.labels[indices]}
        by_hand, found = step(by_hand, batch)
        losses += float(found.sums.means["loss"][0])
    total, weight = metrics.sums.means["loss"]
    assert int(metrics.skipped) == skipped > 1
    assert int(weight) == int(metrics.examples) == 16 * (30 - skipped)
    assert float(total) == pytest.approx(losses, rel=1e-5)
    assert int(metrics.first_nonfinite_step) == NEVER
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
                 state.params, by_hand.params)  # fmt: skip
    _, records = fit(run)
    assert sum(record.get("skipped_steps", 0) for record in records) >= skipped


def test_steps_that_are_all_skipped_end_the_run():
    run = small(on_divergence="skip_step", **{"model.activation": "tanh"})
    run.train.inputs[:] = np.inf
    with pytest.raises(loop.Diverged, match="all steps since the last log point are not finite"):
        fit(run)


def test_each_rollback_halves_the_learning_rate_and_compiles_nothing():
    state = small().init()
    numbers = divergence.slowed(state, 3).hyperparameters["optimizer"]["learning_rate"]
    assert float(numbers) == pytest.approx(1e-3 / 8)
    assert jax.typeof(numbers) == jax.typeof(state.hyperparameters["optimizer"]["learning_rate"])


# The warm-up climbs until the network explodes, between two checkpoints.
CLIMBING = (MAIN, "--config.optimizer.name=sgd", "--config.model.normalization=none",
            "--config.model.activation=squared_relu", "--config.optimizer.learning_rate=1.0",
            "--config.schedule.name=constant", "--config.schedule.warmup=60 steps",
            "--config.data.validation=0.0", "--config.duration=600 steps",
            "--config.log_every=4 steps", "--config.checkpoint.every=12 steps",
            "--config.compute.steps_per_dispatch=1")  # fmt: skip
ROLLBACK = (*CLIMBING, "--config.on_divergence=rollback", "--config.max_rollbacks=12")


def test_rollbacks_are_recorded_and_survive_an_interruption(command, tmp_path):
    whole = command("main", *ROLLBACK, f"--workdir={tmp_path / 'whole'}")
    assert whole.returncode == 0, whole.stderr
    assert "with config.optimizer.learning_rate = 0.5 (rollback 1 of 12)" in whole.stderr
    events = lines(tmp_path / "whole", "history.jsonl")
    rollbacks = [event for event in events if event["event"] == "rollback"]
    first, to = rollbacks[0], [event["to"] for event in rollbacks]
    assert first["to"] == 12 < first["step"] and first["learning_rate"] == 0.5
    # One checkpoint was finite, but its weights were too large already: so to the one before.
    assert to != sorted(to)
    steps = [record["step"] for record in lines(tmp_path / "whole", "metrics.jsonl")]
    assert steps == list(range(4, 601, 4))  # no step twice
    stopped = start_and_stop(tmp_path / "cut", signal.SIGTERM, after_step=120, arguments=ROLLBACK)
    assert stopped.returncode == 130, stopped.stderr
    resumed = command("main", *ROLLBACK, f"--workdir={tmp_path / 'cut'}")
    assert resumed.returncode == 0, resumed.stderr
    a, b = (read(tmp_path / name, "summary.json") for name in ("whole", "cut"))
    assert a["parameters_sha256"] == b["parameters_sha256"]


def test_a_stopped_run_keeps_its_checkpoint_and_may_go_on_by_another_policy(command, tmp_path):
    stopped = command("main", *CLIMBING, f"--workdir={tmp_path}")
    assert stopped.returncode == 3
    last = stopped.stderr.strip().splitlines()[-1]
    assert "not finite at step" in last and "first in" in last and "Traceback" not in stopped.stderr
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["12"]
    event = lines(tmp_path, "history.jsonl")[-1]
    assert event["event"] == "diverged" and event["layer"].endswith(": its output")
    summary = read(tmp_path, "summary.json")
    assert summary["diverged"] and 12 <= summary["last_finite"]["train"]["step"] < summary["steps"]
    assert "config.optimizer.learning_rate = 1 is too high" in summary["cause"]
    # It is not finished: the same command goes on from the checkpoint, to the same end.
    again = command("main", *CLIMBING, f"--workdir={tmp_path}")
    assert again.returncode == 3 and "resuming" in again.stdout and "at step 12" in again.stdout
    assert again.stderr.strip().splitlines()[-1] == last
    resumed = command("main", *ROLLBACK, f"--workdir={tmp_path}")
    assert resumed.returncode == 0 and "at step 12" in resumed.stdout, resumed.stderr
    assert "diverged" not in read(tmp_path, "summary.json")


def test_the_last_finite_records_are_kept_for_the_summary():
    records = [
        {"step": step, "split": split, "loss": loss, "accuracy": 0.5, "seconds": 1.0}
        for step, split, loss in [(1, "train", 2.0), (1, "validation", 0.0), (2, "train", 1.5),
                                  (2, "validation", np.nan), (3, "train", None), (4, "train", 1.0)]
    ]  # fmt: skip
    assert divergence.last_finite(records, 3) == {
        "train": {"step": 2, "loss": 1.5, "accuracy": 0.5},
        "validation": {"step": 1, "loss": 0.0, "accuracy": 0.5},
    }


@pytest.mark.parametrize("members", [1, 2])
def test_a_line_search_that_starts_at_infinity_is_healthy(members):
    changes = {"optimizer.name": "lbfgs", "batch_size": 108, "ensemble.members": members}
    state = small(**changes).init()
    assert not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state.opt_state))
    assert divergence.healthy(state)
    worse = jax.tree.map(lambda leaf: leaf + jnp.inf if leaf.ndim > 2 else leaf, state.opt_state)
    assert not divergence.healthy(state.replace(opt_state=worse))


def test_what_an_augmentation_reads_is_there_in_the_search():
    run = small(**{"data.name": "digits", "augmentation.names": ("alternating_flip",)})
    assert nonfinite._of_step(run, run.init()) == ""


@pytest.mark.parametrize("lanes", ["map", "vmap"])
def test_one_member_may_skip_what_another_does_not(lanes):
    run = poisoned(
        small(**{"on_divergence": "skip_step", "ensemble.members": 2, "ensemble.lane_mode": lanes})
    )
    state = run.init()
    state, metrics = advance.over_arrays(run, state)(state, 2 * len(run.train) // 16)
    assert int(metrics.skipped) >= 2 and divergence.healthy(state)
