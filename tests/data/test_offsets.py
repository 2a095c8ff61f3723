"""Inputs of any dtype in float32: what an offset keeps of them, against exact arithmetic."""

import re

import jax
import numpy as np
import pytest
from runs import ACCURACY

from research.config import default_config
from research.data import offsets, preprocessing, sources
from research.data.dataset import Arrays, Dataset
from research.data.feed import inverted, preprocess
from research.names import bind, public_functions
from research.training import setup
from research.training.checkpoints import Checkpoints
from research.training.copies import copied
from research.training.transfer import start_from
from research.tuning import folds

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.standard_normal((400, 3))
LABELS = (NORMAL[:, 0] > 0).astype(np.int32)
BIG = 2**60 + 12_345_678_901  # no float32, nor a float64


def whole(spread: float, dtype, far: int) -> np.ndarray:
    """Integers around `far`, exactly."""
    return (NORMAL * spread).astype(np.int64).astype(dtype) + np.array(far, dtype)


FAR = {
    "float64 seconds": NORMAL * 5 + 1.7e9,
    "int64 seconds": whole(50, np.int64, 1_700_000_000),
    "int32 seconds": whole(50, np.int32, 1_700_000_000),
    "uint32": whole(1e4, np.uint32, 3_000_000_000),
    "float64 1e15": NORMAL * 50 + 1.2345e15,
    "longdouble": (NORMAL * 5 + 1.7e9).astype(np.longdouble),
    "int64 beyond 2^53": whole(50, np.int64, BIG),
    "int64 below 0": whole(50, np.int64, -BIG),
    "uint64 to its end": np.uint64(2**64 - 1) - np.abs(NORMAL * 50).astype(np.uint64),
    "int64 to its end": np.int64(2**63 - 1) - np.abs(NORMAL * 50).astype(np.int64),
    "float32": (NORMAL * 5 + 1e6).astype(np.float32),
    "int16": whole(1, np.int16, 30_000),
}


def exact(inputs: np.ndarray) -> np.ndarray:
    """Each column less its first number, rounded only then, and standardised."""
    if inputs.dtype.kind in "iu":
        columns = np.array([[int(x) - int(column[0]) for x in column] for column in inputs.T])
    else:
        columns = (inputs - inputs[0]).T
    columns = columns.astype(np.float64)
    return ((columns.T - columns.mean(1)) / columns.std(1)).astype(np.float64)


@pytest.mark.parametrize("name", FAR)
def test_far_from_0_nothing_is_lost(name, recwarn):
    dataset = sources.in_float32(
        Dataset("far", Arrays(FAR[name], LABELS), Arrays(FAR[name][:9], LABELS[:9]), ("0", "1"))
    )
    assert dataset.train.dtype == dataset.test.dtype == np.float32
    (line,) = dataset.messages
    assert "3 of 3 features lie far from 0" in line
    np.testing.assert_array_equal(dataset.test.inputs, dataset.train.inputs[:9])
    for scheme in (preprocessing.per_channel, preprocessing.per_pixel):
        statistics = scheme([dataset.train.inputs], dataset.offset)
        found = preprocess(statistics, dataset.train.inputs)
        np.testing.assert_allclose(found, exact(FAR[name]), atol=1e-4)
    # A state holds float32: two of them make the offset again.
    again = offsets.of({"offset": offsets.parts(dataset.offset)}, dataset.train.shape)
    np.testing.assert_array_equal(again, dataset.offset)
    assert not recwarn.list


@pytest.mark.parametrize(
    "inputs",
    [
        RANDOM.integers(0, 256, (9, 4)).astype(np.uint8),
        NORMAL.astype(np.float32) * 3 + 100,
        NORMAL * 1e-30,
        NORMAL.astype(np.float16),
        (NORMAL * 100).astype(np.int64),
        np.full((9, 2), 1.7e9),
        np.full((9, 2), 0.3) + np.arange(9)[:, None] % 2 * 5.6e-17,  # rounding of float64
    ],
)
def test_ordinary_inputs_are_taken_as_before(inputs):
    dataset = Dataset("near", *[Arrays(inputs, np.zeros(len(inputs), np.int32))] * 2, ("0",))
    found = sources.in_float32(dataset)
    assert found.offset is None and found.messages == ()
    wanted = inputs if inputs.dtype == np.uint8 else inputs.astype(np.float32)
    np.testing.assert_array_equal(found.train.inputs, wanted)
    assert found.train.dtype == wanted.dtype


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        # Missing values written as 0: the spread is that of two clusters.
        (
            np.where(RANDOM.random((400, 3)) < 0.02, 0, NORMAL + 1.7e9),
            "cannot tell apart 9.% .*such as 1",
        ),
        (NORMAL * [1, 1e-50, 1], "100% of the neighbouring values of feature 1.*1 such"),
    ],
)  # fmt: skip
def test_digits_that_float32_cannot_keep_are_reported(inputs, told):
    arrays = Arrays(inputs, LABELS)
    (line,) = sources.in_float32(Dataset("lost", arrays, arrays, ("0", "1"))).messages
    assert "\n" not in line
    assert re.search(told, line), line


MIXED = NORMAL * [1, 100, 1] + [1.7e9, 5e8, 0]
NUMBERS = {"components": 0, "epsilon": 1e-4, "patch_size": 3}


@pytest.mark.parametrize(
    "name", sorted(set(public_functions(preprocessing)) - {"patch_whitening", "identity"})
)
def test_no_scheme_sees_the_offset(name):
    """The same function of the user's inputs as of float64 that knows no offset."""
    scheme = bind(getattr(preprocessing, name), NUMBERS, {})
    arrays = Arrays(MIXED, LABELS)
    dataset = sources.in_float32(Dataset("far", arrays, arrays, ("0", "1")))
    kept, offset = dataset.train.inputs, dataset.offset
    assert np.count_nonzero(offset) == 2
    near = MIXED - offset  # as a reference where features have shifts of their own
    statistics = scheme([kept], offset)
    if name in ("none", "min_max", "global_standard"):
        low, high = MIXED.min(), MIXED.max()
        shift, scale = {
            "none": (0, 1),
            "min_max": ((low + high) / 2, 2 / (high - low)),
            "global_standard": (MIXED.mean(), 1 / MIXED.std()),
        }[name]
        expected = (MIXED - shift) * scale
        np.testing.assert_allclose(preprocess(statistics, kept), expected, rtol=1e-6, atol=1e-6)
    else:
        expected = preprocess(scheme([near]), near)
        np.testing.assert_allclose(preprocess(statistics, kept), expected, atol=2e-4)


def test_images_share_an_offset_per_channel_and_series_have_one_per_number():
    images = 1e7 + RANDOM.standard_normal((50, 4, 5, 2)) + [0, 1e6]
    assert offsets.chosen(images, images.min(0), images.max(0)).shape == (2,)
    series = RANDOM.standard_normal((50, 4, 5))
    series[:, 2] += 1.7e9
    dataset = Dataset("far", *[Arrays(series, np.zeros(50, np.int32))] * 2, ("0",))
    dataset = sources.in_float32(dataset)
    assert dataset.offset.shape == (4, 5) and np.count_nonzero(dataset.offset) == 5
    # Numbers of one channel (the last axis) have offsets of their own: that is undone.
    statistics = preprocessing.per_channel([dataset.train.inputs], dataset.offset)
    expected = (series - series.mean((0, 1))) / series.std((0, 1))
    np.testing.assert_allclose(preprocess(statistics, dataset.train.inputs), expected, atol=1e-6)


def config_of(path, **changes):
    config = default_config()
    config.data.name, config.data.path, config.batch_size = "npz", str(path), 16
    config.model.hidden = (4,)
    config.update_from_flattened_dict(changes)
    return config


def write(path, inputs, labels=LABELS):
    np.savez(path, x_train=inputs, y_train=labels, x_test=inputs[:40], y_test=labels[:40])
    return path


def save(workdir, run, state):
    with Checkpoints(workdir) as checkpoints:
        checkpoints.save(
            1, run.config, copied(state), {"class_names": list(run.class_names)}, ACCURACY
        )


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A run folder with one checkpoint, trained on data far from 0."""
    workdir = tmp_path_factory.mktemp("source")
    run = setup.from_config(config_of(write(workdir / "data.npz", MIXED)))
    state = run.init()
    save(workdir, run, state)
    return workdir, run, state


def test_a_checkpoint_brings_its_offset(source, tmp_path):
    """Also where the data moved, and are not quite the same: their own offset would differ."""
    workdir, run, state = source
    assert run.statistics["offset"].shape == (2, 3)
    config = config_of(write(tmp_path / "moved.npz", MIXED + 1000))
    assert not np.array_equal(
        setup.from_config(config).statistics["offset"], run.statistics["offset"]
    )
    again = setup.from_config(config, workdir)
    jax.tree.map(np.testing.assert_array_equal, again.statistics, run.statistics)
    np.testing.assert_allclose(again.test.inputs, run.test.inputs + 1000, rtol=1e-6, atol=1e-3)
    with Checkpoints(workdir, read_only=True) as checkpoints:
        restored, _ = checkpoints.restore(lambda *_: again.init())
    jax.tree.map(np.testing.assert_array_equal, restored.preprocessing, state.preprocessing)


def test_a_checkpoint_from_before_offsets_goes_on_without(tmp_path):
    config = config_of(write(tmp_path / "data.npz", MIXED))
    old = sources.in_float32(sources.load(config.data), {})  # its statistics know none
    assert old.offset is None
    np.testing.assert_array_equal(old.train.inputs, MIXED.astype(np.float32))
    run = setup.from_split(config, old, np.arange(300), np.arange(300, 400))
    assert set(run.statistics) == {"shift", "scale"}
    save(tmp_path, run, run.init())
    again = setup.from_config(config, tmp_path)
    np.testing.assert_array_equal(again.test.inputs, MIXED[:40].astype(np.float32))
    with Checkpoints(tmp_path, read_only=True) as checkpoints:
        assert checkpoints.restore(lambda *_: again.init())


@pytest.mark.parametrize("theirs_far", [True, False])
def test_transfer_takes_the_difference_of_offsets_into_the_shift(source, tmp_path, theirs_far):
    """The network sees of an input what it saw of it in the earlier run."""
    far, near = NORMAL + [1e7, 0, 0], NORMAL + [16.0, 0, 0]
    theirs, ours = (far, far + [3000, 0, 0]) if theirs_far else (near, near)
    earlier = setup.from_config(config_of(write(tmp_path / "theirs.npz", theirs)))
    save(tmp_path, earlier, earlier.init())
    config = config_of(write(tmp_path / "ours.npz", ours), **{"transfer.checkpoint": str(tmp_path)})
    run = setup.from_config(config)
    assert ("offset" in run.statistics) == ("offset" in earlier.statistics) == theirs_far
    state, _ = start_from(run, run.init())
    shift, scale = theirs[earlier.train.numbers].mean(0), theirs[earlier.train.numbers].std(0)
    expected = (ours[:40] - shift) / scale
    np.testing.assert_allclose(
        preprocess(state.preprocessing, run.test.inputs), expected, rtol=1e-6, atol=1e-5
    )
    # Our inputs keep our offset, in checkpoints too.
    for name in set(run.statistics) - {"shift", "scale"}:
        np.testing.assert_array_equal(state.preprocessing[name], run.statistics[name])


def test_folds_share_one_offset(tmp_path):
    config = config_of(write(tmp_path / "data.npz", MIXED))
    parts = folds.load(config, folds=4)
    offset = parts.arrays["statistics"]["offset"]
    assert offset.shape == (4, 2, 3) and (offset == offset[0]).all()
    kept, rows = parts.arrays["inputs"], parts.arrays["rows"]
    for split in range(4):
        statistics = parts.own(parts.arrays, split)["statistics"]
        found = preprocess(statistics, kept[rows[split]])
        expected = MIXED[rows[split]]
        expected = (expected - expected.mean(0)) / expected.std(0)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_allclose(inverted(statistics, found), kept[rows[3]], atol=1e-3)
