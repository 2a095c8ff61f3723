"""A user's own data: .npz files, whole and damaged."""

import re
import zipfile

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


SPLITS = {"train": IMAGES[:24], "validation": IMAGES[24:32], "test": IMAGES[32:]}


@pytest.mark.parametrize(
    "names",
    [
        "train_inputs train_labels validation_inputs validation_labels test_inputs test_labels",
        "X_train y_train X_val y_val X_test y_test",
        "trainImages TrainLabels val-images val-labels TESTING.IMAGE testing.label",
        "xtrain ytrain xvalid yvalid xtest ytest",
        "X y x_dev y_dev x_test y_test",  # of no split: train
        "training/data training/target valid/data valid/target test/data test/target",
    ],
)
def test_arrays_are_known_by_their_part_and_split_in_any_order_and_case(tmp_path, names):
    inputs, labels = names.split()[::2], names.split()[1::2]
    arrays = dict(zip(inputs, SPLITS.values(), strict=True))
    arrays |= {name: LABELS[: len(of)] for name, of in zip(labels, SPLITS.values(), strict=True)}
    dataset = load_npz(tmp_path / "data.npz", **arrays)
    (told,) = dataset.messages
    assert "is the validation split" in told and not dataset.ignored
    for split, images in SPLITS.items():
        np.testing.assert_array_equal(dataset.splits()[split].inputs, images)
        np.testing.assert_array_equal(dataset.splits()[split].labels, LABELS[: len(images)])


def test_what_is_not_used_of_an_npz_is_named_and_not_read(tmp_path):
    """Objects, and a test split without labels, beside a train split: a fifth becomes the test."""
    unused = {
        "names": np.array([{}], object),
        "sample_weight": np.ones(40),
        "x_test": IMAGES,
        "inputs": IMAGES,
    }
    dataset = load_npz(tmp_path / "data.npz", x_train=IMAGES, y_train=LABELS, **unused)
    assert len(dataset.train) == 32 and len(dataset.test) == 8 and dataset.validation is None
    cut, ignored = dataset.messages
    assert cut == "data.npz: no test split, 8 of 40 examples are cut off for it"
    assert ignored == (
        "data.npz: ignored arrays: names, sample_weight, x_test (test without labels), inputs"
    )
    assert dataset.ignored == "4 arrays"
    with zipfile.ZipFile(tmp_path / "data.npz", "a") as archive:
        archive.writestr("readme.txt", "not an array")
    assert sources.load(data_config(name="npz", path=str(tmp_path / "data.npz"))).ignored[0] == "5"


def test_of_several_names_the_plain_one_is_taken(tmp_path):
    dataset = load_npz(tmp_path / "data.npz", inputs=IMAGES, labels=LABELS, x=IMAGES[1:], y=LABELS)
    assert len(dataset.train) + len(dataset.test) == 40
    assert dataset.messages[-1] == "data.npz: ignored arrays: x, y"


@pytest.mark.parametrize(
    ("labels", "words", "told"),
    [
        (LABELS + 1, "1 2 3 4", "the 4 labels from 1 to 4 are classes 0 to 3"),
        (LABELS // 2 * 500 + 100, "100 100 600 600", "the 2 labels from 100 to 600"),
        ((LABELS // 2 * 255).astype(np.uint8), "0 0 255 255", "the 2 labels from 0 to 255"),
        (LABELS // 2 * 2.0 - 1, "-1 -1 1 1", "the 2 labels from -1 to 1"),
        (-LABELS, "0 -1 -2 -3", "the 4 labels from -3 to 0"),
        (LABELS[:, None], "0 1 2 3", r"labels \(N, 1\) are read as \(N,\)"),
        (np.eye(4)[LABELS], "0 1 2 3", "one-hot labels are read"),
        (np.eye(5, dtype=bool)[LABELS + 1], "1 2 3 4", "one-hot labels are read"),
        (LABELS.astype(np.float16), "0 1 2 3", ""),
        (LABELS > 1, "False False True True", ""),
        (np.array(["ox", "cat", "gnu", "dog"])[LABELS], "ox cat gnu dog", ""),
        (np.array([["ähre"], ["B"], ["a"], ["10"]])[LABELS], "ähre B a 10", "labels"),
        (np.char.encode(np.array(["é", "b", "c", "d"])[LABELS], "utf-8"), "é b c d", ""),
    ],
)
def test_labels_become_consecutive_classes_that_keep_their_names(tmp_path, labels, words, told):
    parts = {"train": 0, "val": 3, "test": 6}
    arrays = {f"x_{split}": IMAGES[first:] for split, first in parts.items()}
    arrays |= {f"y_{split}": labels[first:] for split, first in parts.items()}
    dataset = load_npz(tmp_path / "data.npz", **arrays)
    words = words.split()
    assert sorted(dataset.class_names) == sorted(set(words))
    for split, first in zip(dataset.splits().values(), (0, 3, 6), strict=True):
        assert split.labels.dtype == np.int32
        names = [dataset.class_names[label] for label in split.labels]
        assert names == [words[label] for label in LABELS[first:]]
    *found, validation = dataset.messages
    assert validation.startswith("data.npz: x_val is the validation split") and len(found) < 3
    assert re.match(f"data.npz: {told}", found[0]) if told else not found


@pytest.mark.parametrize(
    ("shape", "axes", "read", "told"),
    [
        ((3, 24, 24), "auto", "NCHW", "channels first, and transposed"),
        ((1, 28, 20), "auto", "NCHW", "channels first, and transposed"),
        ((13, 16, 16), "auto", "NCHW", "channels first, and transposed"),
        ((24, 24, 3), "auto", "NHWC", None),
        ((5, 32, 4), "auto", "NHWC", None),
        ((8, 8, 16), "auto", "NHWC", None),
        ((4, 4, 64), "auto", "NHWC", None),
        ((3, 32, 3), "auto", "NHWC", "may have their channels first or last"),
        ((3, 32, 3), "NCHW", "NCHW", None),
        ((3, 24, 24), "NHWC", "NHWC", None),
        ((3, 24), "NHW", "NHW", None),
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.int64])
def test_axes_of_images_are_told_by_their_shape_or_by_a_key(
    tmp_path, shape, axes, read, told, dtype
):
    inputs = np.random.default_rng(0).integers(0, 256, (40, *shape)).astype(dtype)
    np.savez(tmp_path / "data.npz", x=inputs, y=LABELS, x_test=inputs[:9], y_test=LABELS[:9])
    dataset = sources.load(
        data_config(name="npz", path=str(tmp_path / "data.npz"), image_axes=axes)
    )
    last = {"NHW": lambda: inputs[..., None], "NCHW": lambda: inputs.transpose(0, 2, 3, 1)}
    expected = last.get(read, lambda: inputs)()
    np.testing.assert_array_equal(dataset.train.inputs, expected)
    np.testing.assert_array_equal(dataset.test.inputs, expected[:9])
    assert dataset.train.inputs.flags.c_contiguous
    assert (told in dataset.messages[0]) if told else dataset.messages == ()


def test_bools_are_bytes_and_grey_ones_get_a_channel(tmp_path):
    inputs = IMAGES[..., 0] > 99
    dataset = load_npz(tmp_path / "data.npz", x=inputs, y=LABELS, x_test=inputs, y_test=LABELS)
    np.testing.assert_array_equal(dataset.train.inputs, inputs[..., None].astype(np.uint8))
    assert dataset.train.inputs.dtype == np.uint8


def test_axes_that_the_inputs_do_not_have_are_refused(tmp_path):
    np.savez(tmp_path / "data.npz", x=IMAGES[..., 0], y=LABELS)
    for axes in ("NCHW", "NHWC"):
        with pytest.raises(UserError, match=f"image_axes = '{axes}': .* have 3 axes"):
            sources.load(data_config(name="npz", path=str(tmp_path / "data.npz"), image_axes=axes))


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
            "y_test: 2 is not in .*y_train",
        ),
        ({"inputs": IMAGES, "labels": LABELS[:-1]}, "40 inputs but 39 labels"),
        ({"inputs": IMAGES, "labels": LABELS - 1}, "label -1 of example 0"),
        ({"inputs": IMAGES, "labels": LABELS + 0.5}, "labels are float64.*targets of a regression"),
        ({"inputs": IMAGES, "labels": LABELS * np.nan}, "that of example 0 is nan"),
        ({"inputs": IMAGES, "labels": np.arange(40) * 7}, "40 different .*regression"),
        ({"inputs": IMAGES, "labels": LABELS.astype("M8[D]")}, "allowed: whole numbers, bools"),
        ({"inputs": IMAGES, "labels": np.full(40, 5)}, "all examples have one label, '5'"),
        ({"inputs": IMAGES, "labels": np.where(LABELS, "a", "")}, "example 0 has no label"),
        ({"inputs": IMAGES, "labels": np.full(40, b"\xff")}, "is not UTF-8"),
        ({"inputs": IMAGES, "labels": LABELS.astype(object)}, "holds objects.*astype"),
        ({"inputs": IMAGES, "labels": np.ones((40, 3), int)}, r"\(40, 3\), and row 0 is not"),
        ({"inputs": IMAGES, "labels": np.ones((1, 40), int)}, "row 0 is not one-hot"),
        ({"inputs": IMAGES, "labels": np.ones((40, 2, 2), int)}, r"labels have shape \(40, 2, 2"),
        ({"inputs": IMAGES.astype(complex), "labels": LABELS}, "inputs are complex128"),
        ({"inputs": IMAGES[:, :0], "labels": LABELS}, r"inputs have shape \(40, 0"),
        ({"images": IMAGES, "data": IMAGES, "target": LABELS}, "images and data, which may all be"),
        ({"x_test": IMAGES, "y_test": LABELS}, "holds x_test, y_test"),
        ({"x_train": IMAGES, "y_test": LABELS}, r"x_train \(train without labels\)"),
        ({"arr_0": IMAGES, "arr_1": LABELS}, "holds arr_0, arr_1 .allowed: inputs and labels"),
        ({"inputs": np.where(IMAGES == 7, np.nan, IMAGES), "labels": LABELS}, "not finite"),
        ({"inputs": IMAGES.astype(object), "labels": LABELS}, "not a readable .npz"),
        ({"inputs": IMAGES[:0], "labels": LABELS[:0]}, "no examples"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES[:, 1:], "y_test": LABELS},
         "test inputs"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_val": IMAGES[:, 1:], "y_val": LABELS},
         "validation inputs"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_val": IMAGES, "y_val": LABELS + 2},
         "y_val: 4, 5 are not in .*y_train"),
        ({"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES, "y_test": LABELS.astype(str)},
         "y_train are numbers, such as 0, .*y_test are words, such as 0"),
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
    with pytest.raises(UserError, match="each of the 4 classes has a single example"):
        load_npz(tmp_path / "data.npz", x=IMAGES[:4], y=LABELS[:4])
