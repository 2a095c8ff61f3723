"""A user's own data: folders of images, whole and damaged."""

import numpy as np
import pytest
from PIL import Image

from research.config import default_config
from research.data import sources
from research.errors import UserError


def write_images(root, classes=("cat", "dog"), count=5, size=(6, 4), mode="RGB"):
    random = np.random.default_rng(1)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(count):
            shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
            pixels = random.integers(0, 256, shape).astype(np.uint8)
            Image.fromarray(pixels).save(root / name / f"{number}.png")


def load_folder(path, **values):
    config = default_config().data
    config.update({"name": "folder", "path": str(path), **values})
    return sources.load(config)


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


def test_too_few_images_for_a_test_split(tmp_path):
    write_images(tmp_path / "images", count=3)
    with pytest.raises(UserError, match="too few examples"):
        load_folder(tmp_path / "images")
