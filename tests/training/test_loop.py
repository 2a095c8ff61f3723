"""In which order things happen, how many steps are dispatched, and evaluation's count."""

import threading
import types

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st

from research import processes
from research.config import default_config
from research.data.feed import padded_batches
from research.errors import UserError
from research.training import advance, early_stopping, evaluation, loop, setup
from research.training.dispatch import Pace
from research.training.metrics import NEVER, StepMetrics, Sums
from research.training.plan import Plan
from research.training.program import Program


def test_the_pace_settles_at_half_a_second():
    pace = Pace(0)
    for _ in range(20):
        pace.update(pace.steps, 0.01 * pace.steps)
    assert pace.steps == 50
    fixed = Pace(7)
    fixed.update(7, 9.0)
    assert fixed.steps == 7


@hypothesis.settings(deadline=None)
@hypothesis.given(st.integers(1, 50), st.integers(1, 60))
def test_padded_batches_hold_every_example_once(examples, batch_size):
    inputs = np.arange(1, examples + 1, dtype=np.uint8)[:, None]
    batches = padded_batches(inputs, np.arange(examples), batch_size)
    mask = np.asarray(batches["mask"])
    assert mask.sum() == examples and batches["labels"].shape[1] <= batch_size
    assert np.asarray(batches["inputs"])[mask].ravel().tolist() == inputs.ravel().tolist()
    assert np.asarray(batches["labels"])[mask].tolist() == list(range(examples))


@pytest.mark.parametrize("batch_size", [1, 7, 500, 10_000])
def test_evaluation_does_not_depend_on_the_batch_size(batch_size):
    config = default_config()
    config.data.name = "moons"
    config.compute.evaluation_batch_size = batch_size
    run = setup.from_config(config)
    state = run.init()
    got = evaluation.evaluate(config, run.task, state, run.test)
    probabilities, labels = evaluation.predict(config, run.task, state, run.test)
    assert got["examples"] == len(run.test) == len(probabilities)
    assert np.array_equal(labels, run.test.labels)
    picked = probabilities[np.arange(len(probabilities)), run.test.labels]
    assert got["loss"] == pytest.approx(-np.log(picked).mean(), rel=1e-5)
    assert got["accuracy"] == (probabilities.argmax(-1) == run.test.labels).mean()


def test_an_empty_split_is_refused():
    config = default_config()
    config.data.name = "moons"
    config.data.validation = 0.0
    run = setup.from_config(config)
    with pytest.raises(UserError, match="empty split"):
        evaluation.evaluate(config, run.task, run.init(), run.validation)


def test_the_confusion_matrix_counts_every_example():
    config = default_config()
    config.data.name = "blobs"
    run = setup.from_config(config)
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(3), len(run.test.labels))
    scored = run.task.score(np.log(probabilities)[None], run.test.labels, {})
    found = run.task.pictures(scored, run.test, lambda rows: run.test.load(rows).inputs)
    assert found["confusion"].sum() == len(run.test.labels)
    assert found["confusion"].sum(1).tolist() == np.bincount(run.test.labels).tolist()
    wrong = found["mistake_labels"] != found["mistake_predictions"]
    assert wrong.all() and (np.diff(found["mistake_confidences"]) <= 0).all()


def test_a_perfect_score_has_no_mistakes_to_draw():
    config = default_config()
    config.data.memory_mb = 0
    run = setup.from_config(config)
    labels = run.test.load(np.arange(len(run.test))).labels
    scored = run.task.score(100 * np.eye(10)[labels][None], labels, {})
    found = run.task.pictures(scored, run.test, lambda rows: run.test.load(rows).inputs)
    assert len(found["mistake_labels"]) == 0 and "mistake_images" not in found


def test_init_is_abstract_too():
    config = default_config()
    config.data.name = "moons"
    run = setup.from_config(config)
    shapes = jax.eval_shape(run.init)
    assert jax.tree.map(np.shape, run.init()) == jax.tree.map(lambda leaf: leaf.shape, shapes)


def fit_moons(plan: Plan, advance_with) -> list:
    """What happens in a loop that dispatches through `advance_with(program)`, up to an error.

    Saving waits until the next steps are dispatched: another order is told as a TimeoutError.
    """
    config = default_config()
    config.data.name, config.duration = "moons", "15 steps"
    run = setup.from_config(config)
    state, events = run.init(), []
    program = advance.over_arrays(run, state)
    at = {step: threading.Event() for step in range(0, 15, 5)}

    def dispatched(state, steps):
        step = int(state.step)
        events.append(("advance", step))
        at[step].set()
        return advance_with(program, state, steps)

    class Host(loop.Host):
        def copy(self, state):
            events.append(("copy", int(state.step)))
            return int(state.step)

        def save(self, step, copies, records, window):
            if step in at and not at[step].wait(timeout=20):
                raise TimeoutError
            events.append(("save", step, copies, bool(records)))

    evaluate = evaluation.validation_evaluator(run, state)
    compiled = Program(dispatched, lambda state: True, evaluate)
    try:
        loop.fit(state, plan, run.task, compiled, Host(), Pace(5))
    except Exception as error:
        events.append(error)
    return events


def test_the_device_has_its_next_steps_before_a_checkpoint_is_saved():
    """Copies are taken before the steps that take the memory over, and may wait for the device: so
    not before what came earlier was told.
    """
    assert fit_moons(Plan(15, 100, 10, 5), lambda program, *arguments: program(*arguments)) == [
        ("advance", 0),
        ("copy", 5),
        ("advance", 5),
        ("save", 5, 5, False),
        ("copy", 10),
        ("advance", 10),
        ("save", 10, 10, True),
        ("copy", 15),
        ("save", 15, 15, True),
    ]


@pytest.mark.parametrize("count", [1, 2])
def test_a_thread_of_its_own_is_held_by_the_backend_unless_there_are_other_processes(
    count, monkeypatch, moons
):
    """What came before is saved while that thread is held."""
    main, events, saved = threading.current_thread(), [], threading.Event()
    monkeypatch.setattr(jax, "process_count", lambda: count)
    monkeypatch.setattr(processes, "agree", lambda *decision: decision)
    metrics = metrics_of()

    def advance(state, steps):
        alone = threading.current_thread() is not main
        if alone and state.step == 5 and not saved.wait(timeout=20):
            raise TimeoutError
        events.append((state.step, alone))
        return types.SimpleNamespace(step=state.step + steps), metrics

    class Host(loop.Host):
        def copy(self, state):
            return state.step

        def save(self, *_):
            saved.set()

    first, plan = types.SimpleNamespace(step=0), Plan(10, 100, 100, 5)
    loop.fit(first, plan, moons.task, Program(advance, lambda state: True), Host(), Pace(5))
    assert events == [(0, count == 1), (5, count == 1)]


def metrics_of(first_nonfinite_step=NEVER) -> StepMetrics:
    """Return the metrics of two examples, as they come from the device."""
    numbers = {"loss": (np.float32(3), np.int32(2)), "accuracy": (np.int32(1), np.int32(2))}
    bad = np.int32(first_nonfinite_step)
    return StepMetrics(Sums(numbers), np.int32(2), np.float32(0.1), np.int32(0), bad)


def test_what_a_window_adds_up_stays_on_the_host(moons):
    """On the device it would wait for the steps that are on their way."""
    window = loop._Window(moons.task)
    for first_bad in (9, 4):
        window.add(metrics_of(first_bad), 0.1)
    found = window.metrics
    assert not any(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(found))
    assert found.sums.means == {"loss": (6, 4), "accuracy": (2, 4)}
    assert found.examples == 4 and found.first_nonfinite_step == 4


def test_a_checkpoint_is_not_lost_with_the_steps_after_it():
    """Neither where they cannot be taken, nor where they diverge."""
    damaged = UserError("image 7 is damaged")

    def fails(program, state, steps):
        if state.step == 10:
            raise damaged
        return program(state, steps)

    *events, error = fit_moons(Plan(15, 100, 10, 5), fails)
    saves = [("save", 5, 5, False), ("save", 10, 10, True)]
    assert [event for event in events if event[0] == "save"] == saves and error is damaged

    for before in (5, 10):  # with other steps on their way, and at the end

        def diverges(program, state, steps, before=before):
            bad = {"first_nonfinite_step": before + 2} if state.step == before else {}
            state, metrics = program(state, steps)
            return state, metrics.replace(**bad)

        *events, error = fit_moons(Plan(15, 100, 10, 5), diverges)
        assert [event for event in events if event[0] == "save"] == saves[: before // 5]
        assert isinstance(error, loop.Diverged) and error.step == before + 2


def test_a_run_that_is_stopped_early_tells_of_its_last_steps():
    """Though no log point had come."""
    config = default_config()
    config.data.name = "moons"
    config.log_every, config.evaluate_every = "100 percent", "5 steps"
    run = setup.from_config(config)
    state, records = run.init(), []
    verdicts = iter([(False, False), (True, True)])

    class Host(loop.Host):
        stops_early = True

        def judge(self):
            return early_stopping.Verdict(*next(verdicts))

        def copy(self, state):
            return state

        def write(self, record):
            records.append(record)

    steps = advance.over_arrays(run, state)
    evaluate = evaluation.validation_evaluator(run, state)
    compiled = Program(steps, lambda state: True, evaluate)
    loop.fit(state, run.plan(), run.task, compiled, Host(), Pace(5))
    assert [(record["step"], record["split"]) for record in records] == [
        (5, "validation"),
        (5, "train"),
    ]
