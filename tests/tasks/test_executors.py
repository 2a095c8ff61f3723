"""One step, many executors: the numbers of every task are the same in all of them."""

import dataclasses
import functools
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import ROOT
from flax import linen as nn
from runs import ACCURACY
from tasks import executed
from tasks.executed import BATCH, CASES, STEPS, data_of, run_of

import research
from research.config import trust
from research.data.feed import padded_batches
from research.data.shuffle import batch_indices
from research.errors import UserError
from research.training import ensembles, evaluation, executors, metrics
from research.training.checkpoints import Checkpoints
from research.training.copies import copied
from research.training.metrics import Sums
from research.training.step import make_train_step

TASKS = pytest.mark.parametrize("task", CASES)


def equal(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def close(found: dict, wanted: dict, rtol: float = 2e-5) -> None:
    """Assert that all numbers of `found_in` are close, measured by the largest of an array."""
    assert set(found) == set(wanted)
    for name, want in wanted.items():
        scale = np.nanmax(np.abs(want), initial=1e-3)
        np.testing.assert_allclose(found[name], want, rtol=0, atol=rtol * scale, err_msg=name)


@functools.cache
def reference(task):
    """What one device makes of a task, in dispatches of several steps."""
    return executed.numbers_of(task)


@TASKS
def test_a_run_reports_the_metrics_of_its_task_and_of_its_modules(task):
    found, kind = reference(task), run_of(task).setup.task
    for split in ("train", "validation"):
        for name in ("loss", "mean_square", *kind.default_metrics):
            assert found[f"['{split}']['{name}']"].shape == ()
        by_output = [name for name in found if name.startswith(f"['{split}']['by_output']")]
        assert len(by_output) == kind.outputs
        for name in CASES[task].get("metrics", ()):
            assert any(key.startswith(f"['{split}']['{name}']") for key in found)
    assert found["['collections']['counters']['calls']"] == STEPS


@TASKS
def test_steps_alone_and_streamed_are_those_of_one_dispatch(task):
    run = run_of(task)
    whole, together = run.trained(run.setup.init(), STEPS)
    state, alone = run.trained(run.setup.init(), *[1] * STEPS)
    equal(state, whole)
    close(run.numbers(state, alone.sums), reference(task))
    close(run.numbers(whole, together.sums), reference(task))

    step = make_train_step(run.setup.config, run.setup.task)
    streamed, state, so_far = jax.jit(executors.streamed(step)), run.setup.init(), None
    train, seed = run.setup.train, jnp.uint32(run.setup.config.seed)
    for number in range(STEPS):
        indices = np.asarray(batch_indices(seed, number, BATCH, len(train)))
        batch = {"inputs": train.inputs[indices], "labels": train.labels[indices]}
        if so_far is None:
            so_far = jax.jit(executors.no_metrics, static_argnums=0)(step, state, batch)
        state, so_far = streamed(state, so_far, batch)
    close(run.numbers(state, so_far.sums), reference(task))


@TASKS
def test_microbatches_are_the_whole_batch(task):
    """Unequal weights of classes and numbers of tokens included."""
    found = executed.numbers_of(task, ("compute.microbatches", 4))
    calls = "['collections']['counters']['calls']"
    assert found.pop(calls) == 4 * STEPS
    close(found, {name: value for name, value in reference(task).items() if name != calls})


@functools.cache
def alone(task):
    """The last states and the metrics of two seeds, one run after the other."""
    run = run_of(task)  # the seed is a number in its program

    def with_seed(seed):
        config = run.setup.config.copy_and_resolve_references()
        config.seed = seed
        return dataclasses.replace(run.setup, config=config).init()

    return [run.trained(with_seed(3 + member), STEPS) for member in range(2)]


def lanes_of(task, how):
    return run_of(task, ("ensemble.members", 2), ("ensemble.lane_mode", how), ("seed", 3))


@pytest.mark.parametrize("how", ["map", "vmap"])
@TASKS
def test_members_are_the_runs_of_their_seeds_alone(task, how):
    run, single = lanes_of(task, how), run_of(task)
    state, together = run.trained(run.setup.init(), STEPS)
    for number, (one, of_one) in enumerate(alone(task)):
        in_lane = ensembles.member(state, number)
        own = Sums(jax.tree.map(lambda leaf, n=number: leaf[n], together.sums.members))
        if how == "map":  # the program of a run alone, one lane after the other
            equal(in_lane, one)
        close(single.numbers(in_lane, own), single.numbers(one, of_one.sums))
    found = metrics.values(run.setup.task, together.sums)
    total = jax.tree.map(np.add, *(of_one.sums for _, of_one in alone(task)))
    wanted = metrics.values(run.setup.task, total)
    assert found.pop("members")["loss"] == pytest.approx(
        [float(of_one.loss) for _, of_one in alone(task)]
    )
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


@TASKS
def test_an_ensemble_answers_with_the_average_of_its_task(task):
    """In a program, on the host, and in the metrics of validation."""
    run, single = lanes_of(task, "map"), run_of(task)
    state, _ = run.trained(run.setup.init(), STEPS)
    split, kind = run.setup.validation, run.setup.task
    outputs = [
        evaluation.predict_each(single.setup.config, kind, one, split)[0][0]
        for one, _ in alone(task)
    ]
    together, labels = evaluation.predict_each(run.setup.config, kind, state, split)
    np.testing.assert_allclose(together, outputs, rtol=1e-4, atol=1e-5)
    averaged = kind.predictions(together)
    each = [kind.predictions(one[None]) for one in together]
    np.testing.assert_allclose(averaged, np.mean(each, axis=0), rtol=1e-6)
    in_program = kind.answer(kind.average(jnp.asarray(together)))
    np.testing.assert_allclose(in_program, averaged, rtol=1e-4, atol=1e-5)
    found = metrics.values(kind, jax.device_get(run.evaluate(state)))
    statistics = run.setup.statistics.get("targets", {})
    figures = kind.figures(kind.score(together, labels, statistics))
    for name in ("loss", kind.objective):
        assert found[name] == pytest.approx(figures[name], rel=1e-4), name


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory):
    file = tmp_path_factory.mktemp("devices") / "found.npz"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2"}
    environment["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # a few steps are quick in any code
    path = os.pathsep.join([str(ROOT / "tests"), environment["PYTHONPATH"]])
    done = subprocess.run(
        [sys.executable, executed.__file__, str(file)],
        cwd=ROOT, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True,
        timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = np.load(file)
    assert found["devices"] == 2
    return found


@pytest.mark.parametrize("mode", executed.MODES)
@TASKS
def test_two_devices_are_one(task, mode, two_devices):
    prefix = f"{task} {mode} "
    found = {
        name.removeprefix(prefix): two_devices[name]
        for name in two_devices.files
        if name.startswith(prefix)
    }
    close(found, reference(task))


@TASKS
def test_a_checkpoint_goes_on_to_the_same_bits(task, tmp_path):
    """Members, their counters and averages, and the statistics of targets are in it."""
    trust.allow(["tasks"])  # the model's name stands in the checkpoint
    run = lanes_of(task, "map")
    template = run.setup.init()
    half, _ = run.trained(template, 2)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(2, run.setup.config, copied(half), {}, ACCURACY)
    whole, wanted = run.trained(half, STEPS - 2)
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore(lambda *_: run.setup.init(), 2)
        kept = checkpoints.weights(2)["preprocessing"].get("targets", {})
    again, found = run.trained(restored, STEPS - 2)
    equal(again, whole)
    equal(found, wanted)
    equal(kept, run.setup.statistics.get("targets", {}))
    assert again.collections["counters"]["calls"].tolist() == [STEPS, STEPS]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return a function task -> a finished run: saved in the middle of what a line tells."""
    folder, kept = tmp_path_factory.mktemp("runs"), {}

    def of(task):
        if task not in kept:
            kept[task] = fitted(task, folder / task)
        return kept[task]

    return of


def fitted(task, workdir):
    return research.fit(
        executed.config_of(
            task,
            **{
                "duration": "9 steps",
                "log_every": "4 steps",
                "evaluate_every": "3 steps",
                "checkpoint.every": "2 steps",
                "compute.steps_per_dispatch": 1,
            },
        ),
        data=data_of(task),
        workdir=workdir,
    )


def test_what_modules_sow_reaches_lines_report_and_tensorboard(finished):
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="needs tensorboard"
    )
    result = finished("classification")
    for record in result.history:
        assert len(record["by_output"]) == 3 and isinstance(record["mean_square"], float)
    assert "mean square" in result.report().read_text()
    board = accumulator.EventAccumulator(str(result.workdir / "tensorboard"))
    board.Reload()
    wanted = {"train/mean_square", "validation/mean_square", "train/by_output/0"}
    assert wanted <= set(board.Tags()["scalars"])


class Colliding(nn.Module):
    """It sows a metric by a name of the task's."""

    outputs: int

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.Dense(self.outputs)(x)
        self.sow("metrics", "loss", x.mean())
        return x


def test_a_module_cannot_replace_a_metric_of_the_task():
    config = executed.config_of("multilabel")
    with pytest.raises(UserError, match=r"a module sows 'loss' .*\(allowed: another name\)"):
        research.fit(config, data=data_of("multilabel"), model=Colliding)


def test_evaluation_is_padded_with_examples():
    """Modules see whole batches: zeros would be in the means of what they sow."""
    inputs = 1 + np.arange(10.0).reshape(5, 2)
    batches = padded_batches(inputs, np.arange(5), 3, multiple=2)
    assert batches["inputs"].shape == (2, 4, 2) and batches["mask"].sum() == 5
    rows = batches["inputs"].reshape(8, 2)
    np.testing.assert_array_equal(rows, np.r_[inputs, inputs[:3]])
    alone = padded_batches(inputs[:1], np.arange(1), 3, multiple=8)
    assert (alone["inputs"] == inputs[0]).all() and alone["mask"].sum() == 1


TIMED = ("seconds", "examples_per_second", "wall_seconds", "compile_seconds")


def without_times(record: dict) -> dict:
    return {name: value for name, value in record.items() if name not in TIMED}


@pytest.mark.slow
@TASKS
def test_a_killed_run_goes_on_to_the_same_bits_and_lines(task, finished, tmp_path):
    whole, workdir = finished(task), tmp_path / "cut"
    shutil.copytree(whole.workdir, workdir)
    (workdir / "summary.json").unlink()
    steps = sorted(int(path.name) for path in (workdir / "checkpoints").iterdir())
    assert len(steps) >= 2
    for step in steps[1:]:
        shutil.rmtree(workdir / "checkpoints" / str(step))
    again = fitted(task, workdir)
    assert without_times(again.summary) == without_times(whole.summary)
    assert [*map(without_times, again.history)] == [*map(without_times, whole.history)]
    events = (workdir / "history.jsonl").read_text()
    assert json.loads(events.splitlines()[-2])["event"] == "resume"


@TASKS
def test_a_loaded_run_predicts_what_it_did(task, finished):
    """Regressions in the unit of the targets."""
    whole, inputs = finished(task), data_of(task)["x_test"]
    loaded = research.load(whole.workdir, allow=["tasks"])
    found = loaded.predict(inputs)
    np.testing.assert_array_equal(found, whole.predict(inputs))
    figures = loaded.evaluate(inputs, whole.networks[0].run.test.labels)
    for name in ("loss", whole.networks[0].run.task.objective):
        assert figures[name] == pytest.approx(whole.summary[f"test_{name}"], rel=1e-6)
    if task == "regression":
        assert found[:, 0].mean() == pytest.approx(7000, rel=0.1)
        assert found[:, 1].mean() == pytest.approx(1, rel=0.1)
