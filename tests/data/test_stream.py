"""Data read from disk by Grain: the same examples in the same order, and errors that are told."""

import numpy as np
import pytest

from research.config import default_config
from research.data import sources, stream
from research.data.dataset import Arrays, Records
from research.data.shuffle import batch_indices
from research.errors import UserError
from research.training import evaluation, setup

IMAGES = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 1)).astype(np.uint8)


def records(labels=None, broken=()):
    labels = np.arange(50) % 3 if labels is None else labels

    def read(number):
        if number in broken:
            raise UserError(f"image {number} is broken")
        return IMAGES[number], int(labels[number])

    return Records(read, np.arange(50), (4, 4, 1), 3, "test", lambda: labels)


def test_batches_are_those_of_data_in_memory():
    batches = stream.TrainingBatches(records(), 16, seed=3)
    for step in range(10):
        indices = np.asarray(batch_indices(3, step, 16, 50))
        batch = next(batches)
        np.testing.assert_array_equal(batch["inputs"], IMAGES[indices])
        np.testing.assert_array_equal(batch["labels"], indices % 3)


def test_the_step_is_all_that_is_needed_to_go_on():
    batches = stream.TrainingBatches(records(), 16, seed=3)
    seen = [next(batches) for _ in range(5)]
    for step in (4, 0):
        batches.seek(step)
        found = next(batches)
        assert set(found) == {"inputs", "labels", "indices", "epochs"}
        for name, array in seen[step].items():
            np.testing.assert_array_equal(found[name], array)


def test_chunks_hold_everything_in_order():
    parts = list(stream.chunks(records().subset(np.arange(7, 50)), 10))
    assert [len(part) for part in parts] == [10, 10, 10, 10, 3]
    np.testing.assert_array_equal(np.concatenate([part.inputs for part in parts]), IMAGES[7:])


def test_what_is_wrong_with_an_example_is_told():
    for bad, message in (
        (records(broken=(31,)), "image 31 is broken"),
        (records(labels=np.where(np.arange(50) == 17, 5, 0)), "label 5 of example 17"),
    ):
        with pytest.raises(UserError, match=message):
            list(stream.chunks(bad, 8))
        with pytest.raises(UserError, match=message):
            batches = stream.TrainingBatches(bad, 16, seed=0)
            for _ in range(4):
                next(batches)


def test_memory_decides(real_data):
    config = default_config()
    config.data.name = "mnist"
    config.data.data_dir = real_data
    config.data.memory_mb = 10
    dataset = sources.load(config.data)
    assert isinstance(dataset.train, Records) and len(dataset.train) == 60_000
    sample = np.array([0, 5, 59_999])
    streamed = dataset.train.load(sample)
    config.data.memory_mb = 100
    resident = sources.load(config.data).train
    assert isinstance(resident, Arrays)
    np.testing.assert_array_equal(streamed.inputs, resident.inputs[sample])
    np.testing.assert_array_equal(streamed.labels, resident.labels[sample])


def test_evaluation_from_disk_is_evaluation_in_memory():
    config = default_config()
    config.data.memory_mb = 0
    config.compute.evaluation_batch_size = 100
    run = setup.from_config(config)
    assert isinstance(run.test, Records)
    state = run.init()
    resident = run.test.load(np.arange(len(run.test)))
    got = evaluation.evaluate(config, run.task, state, run.test)
    want = evaluation.evaluate(config, run.task, state, resident)
    assert got["examples"] == want["examples"] == 355
    assert got["accuracy"] == want["accuracy"] and got["loss"] == pytest.approx(want["loss"])
    for a, b in zip(
        evaluation.predict(config, run.task, state, run.test),
        evaluation.predict(config, run.task, state, resident),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)
