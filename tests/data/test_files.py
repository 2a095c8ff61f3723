"""A user's own data: .npz files, whole and damaged."""

import numpy as np
import pytest

from research.config import default_config
from research.data import sources
from research.errors import UserError


def data_config(**values):
    config = default_config().data
    config.update(values)
    return config


def load_npz(path, **arrays):
    np.savez(path, **arrays)
    return sources.load(data_config(name="npz", path=str(path)))


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 5, 4, 3)).astype(np.uint8)
LABELS = np.arange(40) % 4


def test_npz_with_both_splits(tmp_path):
    for names in (
        ("train_inputs", "train_labels", "test_inputs", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ):
        arrays = dict(zip(names, (IMAGES, LABELS, IMAGES[:8], LABELS[:8]), strict=True))
        dataset = load_npz(tmp_path / "data.npz", **arrays)
        np.testing.assert_array_equal(dataset.train.inputs, IMAGES)
        np.testing.assert_array_equal(dataset.test.labels, LABELS[:8])
        assert dataset.train.inputs.dtype == np.uint8 and dataset.train.labels.dtype == np.int32
        assert dataset.class_names == ("0", "1", "2", "3")


def test_npz_of_one_split_gives_a_fifth_of_each_class_to_test(tmp_path):
    dataset = load_npz(tmp_path / "data.npz", x=IMAGES[..., 0], y=LABELS)
    assert dataset.train.inputs.shape == (32, 5, 4, 1)
    assert np.bincount(dataset.test.labels).tolist() == [2, 2, 2, 2]
    together = np.concatenate([dataset.train.inputs, dataset.test.inputs]).reshape(40, -1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, IMAGES[..., 0].reshape(40, -1)))


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"inputs": IMAGES}, "holds inputs"),
        ({}, "holds nothing"),
        (
            {
                "x_train": IMAGES[:3],
                "y_train": np.array([0, 1, 0]),
                "x_test": IMAGES[:2],
                "y_test": np.array([1, 2]),
            },
            "label 2 of y_test is not in y_train",
        ),
        ({"inputs": IMAGES, "labels": LABELS[:-1]}, "40 inputs but 39 labels"),
        ({"inputs": IMAGES, "labels": LABELS - 1}, "label -1 of example 0"),
        ({"inputs": IMAGES, "labels": LABELS * 1000}, "label 3000 among 40 examples"),
        ({"inputs": IMAGES, "labels": LABELS + 0.5}, "labels float64"),
        ({"inputs": IMAGES, "labels": np.eye(4)[LABELS].astype(int)}, r"labels have shape \(40, 4"),
        ({"inputs": np.where(IMAGES == 7, np.nan, IMAGES), "labels": LABELS}, "not finite"),
        ({"inputs": IMAGES.astype(object), "labels": LABELS}, "not a readable .npz"),
        ({"inputs": IMAGES[:0], "labels": LABELS[:0]}, "no examples"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, 1:], "y_test": LABELS},
         "test inputs"),
    ],
)  # fmt: skip
def test_unfit_arrays_are_named(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        load_npz(tmp_path / "data.npz", **arrays)


def test_a_missing_or_damaged_npz_is_named(tmp_path):
    path = tmp_path / "data.npz"
    config = data_config(name="npz", path=str(path))
    with pytest.raises(UserError, match="no such file"):
        sources.load(config)
    with pytest.raises(UserError, match="needs config.data.path"):
        sources.load(data_config(name="npz"))
    np.savez(path, inputs=IMAGES, labels=LABELS)
    whole = path.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]
    for damaged in (b"", b"not a zip", whole[:-100], whole[:60], flipped):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="not a readable .npz"):
            sources.load(config)
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match="not a readable .npz"):
        sources.load(config)


def test_toy_sets_are_functions_of_their_seed():
    for name in ("blobs", "moons", "spirals", "rings"):
        a, b = (sources.load(data_config(name=name, split_seed=seed)) for seed in (0, 1))
        again = sources.load(data_config(name=name))
        assert a.train.inputs.shape == (1000, 2) and a.test.inputs.shape == (500, 2)
        np.testing.assert_array_equal(a.train.inputs, again.train.inputs)
        assert not np.array_equal(a.train.inputs, b.train.inputs)
        assert len(np.unique(a.train.labels)) == len(a.class_names)
        assert np.abs(a.train.inputs).max() < 3


def test_too_few_examples_for_a_test_split(tmp_path):
    with pytest.raises(UserError, match="too few examples"):
        load_npz(tmp_path / "data.npz", x=IMAGES[:4], y=LABELS[:4])
