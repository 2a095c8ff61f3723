"""A user's own data: .npz files and folders of images, whole and damaged."""

import numpy as np
import pytest
from PIL import Image

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


def write_images(root, classes=("cat", "dog"), count=5, size=(6, 4), mode="RGB"):
    random = np.random.default_rng(1)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            pixels = random.integers(0, 256, shape).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


def load_folder(path, **values):
    return sources.load(data_config(name="folder", path=str(path), **values))


def test_a_folder_of_classes(tmp_path):
    write_images(tmp_path)
    dataset = load_folder(tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.train.inputs.shape == (8, 4, 6, 3) and dataset.test.inputs.shape == (2, 4, 6, 3)
    picture = np.asarray(Image.open(tmp_path / "dog" / "0.png"))
    everything = [*dataset.train.inputs, *dataset.test.inputs]
    assert any(np.array_equal(picture, image) for image in everything)


def test_a_folder_with_train_and_test(tmp_path):
    write_images(tmp_path / "train", mode="L")
    write_images(tmp_path / "test", count=1, mode="L")
    dataset = load_folder(tmp_path)
    assert dataset.train.inputs.shape == (10, 4, 6, 1)
    assert dataset.test.labels.tolist() == [0, 1]
    (tmp_path / "test" / "bird").mkdir()
    with pytest.raises(UserError, match="'bird' is not in"):
        load_folder(tmp_path)
    (tmp_path / "test").rename(tmp_path / "val")
    with pytest.raises(UserError, match="has train/ but no test/"):
        load_folder(tmp_path)


def test_unequal_sizes_ask_for_an_image_size(tmp_path):
    write_images(tmp_path)
    Image.new("L", (30, 9)).save(tmp_path / "cat" / "wide.png")
    with pytest.raises(UserError, match=r"unequal sizes.*set config.data.image_size"):
        load_folder(tmp_path)
    dataset = load_folder(tmp_path, image_size=8)
    assert dataset.train.inputs.shape[1:] == (8, 8, 3)


def test_what_is_no_folder_of_images_is_named(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        load_folder(tmp_path / "nothing")
    with pytest.raises(UserError, match="0 class folders"):
        load_folder(tmp_path)
    write_images(tmp_path, count=2)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty: no images"):
        load_folder(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"text", "half"])
def test_a_damaged_image_is_named(tmp_path, damage):
    write_images(tmp_path)
    victim = tmp_path / "dog" / "3.png"
    victim.write_bytes(victim.read_bytes()[:60] if damage == "half" else damage)
    with pytest.raises(UserError, match="3.png: not a readable image"):
        load_folder(tmp_path)


def test_toy_sets_are_functions_of_their_seed():
    for name in ("blobs", "moons", "spirals", "rings"):
        a, b = (sources.load(data_config(name=name, split_seed=seed)) for seed in (0, 1))
        again = sources.load(data_config(name=name))
        assert a.train.inputs.shape == (1000, 2) and a.test.inputs.shape == (500, 2)
        np.testing.assert_array_equal(a.train.inputs, again.train.inputs)
        assert not np.array_equal(a.train.inputs, b.train.inputs)
        assert len(np.unique(a.train.labels)) == len(a.class_names)
        assert np.abs(a.train.inputs).max() < 3


def test_grey_of_16_bits_is_scaled_not_cut_off(tmp_path):
    ramp = np.arange(0, 65_536, 256, dtype=np.uint16).reshape(16, 16)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            Image.fromarray(ramp).save(tmp_path / name / f"{number}.png")
    dataset = load_folder(tmp_path)
    np.testing.assert_array_equal(dataset.train.inputs[0, ..., 0], ramp >> 8)
    Image.fromarray(ramp.astype(np.float32)).save(tmp_path / "a" / "0.tiff")
    (tmp_path / "a" / "0.tiff").rename(tmp_path / "a" / "0.png")
    with pytest.raises(UserError, match="pixels of 32 bits"):
        load_folder(tmp_path)


def test_too_few_examples_for_a_test_split(tmp_path):
    with pytest.raises(UserError, match="too few examples"):
        load_npz(tmp_path / "data.npz", x=IMAGES[:4], y=LABELS[:4])
    write_images(tmp_path / "images", count=3)
    with pytest.raises(UserError, match="too few examples"):
        load_folder(tmp_path / "images")
