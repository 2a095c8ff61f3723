"""The lines about the data at every start, for all kinds of sources."""

import jax
import numpy as np
import pytest
from PIL import Image

from research.config import default_config
from research.data import description
from research.data.dataset import Arrays
from research.errors import UserError
from research.training import setup
from research.tuning import folds

RANDOM = np.random.default_rng(0)


def config_of(**values):
    config = default_config()
    config.batch_size, config.duration = 8, "1 epochs"
    config.update_from_flattened_dict(values)
    return config


def described(**values) -> list[str]:
    return setup.from_config(config_of(**values)).description()


def npz(path, **arrays) -> dict:
    np.savez(path / "data.npz", **arrays)
    return {"data.name": "npz", "data.path": str(path / "data.npz")}


def test_digits_and_toys():
    assert described() == [
        "data: digits: 1298 train, 144 validation, 355 test examples; 10 classes (0, 1, 2, ...); "
        "8 x 8 x 1 uint8 from 0 to 255"
    ]
    (line,) = described(**{"data.name": "moons", "data.validation": 0.0})
    assert line.startswith(
        "data: moons: 1000 train, 0 validation, 500 test examples; 2 classes (0, 1); 2 float32 from"
    )


@pytest.mark.parametrize("memory_mb", [4096, 0])
def test_a_folder_in_memory_and_from_disk(tmp_path, memory_mb):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(10):
            pixels = np.full((4, 6, 3), 10 * number, np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    (tmp_path / "dog" / "notes.txt").write_text("not an image")
    (line, *_) = described(
        **{"data.name": "folder", "data.path": str(tmp_path), "data.memory_mb": memory_mb}
    )
    start = "14 train, 2 validation, 4 test examples; 2 classes (cat, dog); 4 x 6 x 3 uint8"
    assert start in line
    assert line.endswith("; ignored: 1 file or folder")
    assert ("read from disk" in line) == (memory_mb == 0) != (" from 0 to 90" in line)


def test_an_npz_with_a_validation_split_of_its_own(tmp_path):
    """It is used instead of a part of train, and unused arrays are counted and named."""
    inputs = RANDOM.normal(size=(40, 3)).astype(np.float32)
    inputs[0], inputs[1] = -7.25, 12.5
    labels = np.arange(40) % 2 * 500 + 100
    data = npz(tmp_path, x_train=inputs, y_train=labels, x_val=inputs[:10], y_val=labels[:10],
               x_test=inputs[:5], y_test=labels[:5], sample_weight=labels)  # fmt: skip
    run = setup.from_config(config_of(**data))
    np.testing.assert_array_equal(run.train.inputs, inputs)
    np.testing.assert_array_equal(run.validation.inputs, inputs[:10])
    assert run.class_names == ("100", "600")
    assert run.description() == [
        "data: data.npz: 40 train, 10 validation, 5 test examples; 2 classes (100, 600); "
        "3 float32 from -7.25 to 12.5; ignored: 1 array",
        "data.npz: the 2 labels from 100 to 600 are classes 0 to 1, which keep them as names",
        "data.npz: x_val is the validation split (config.data.validation = 0.1 is not used)",
        "data.npz: ignored arrays: sample_weight",
    ]


def test_empty_splits_and_classes_that_a_split_lacks_are_told(tmp_path):
    inputs = RANDOM.normal(size=(90, 2))
    test = {"x_test": inputs[:3], "y_test": np.arange(3)}
    few = npz(tmp_path, x=inputs, y=np.arange(90) % 10, **test)
    *_, validation, tested = described(**few, **{"data.validation": 0.05})  # .45 of 9
    assert validation.startswith("validation has no example of 6 of the 10 classes (")
    assert tested == "test has no example of 7 of the 10 classes (3, 4, 5, ...)"
    *_, last = described(**few, **{"data.validation": 0.001})
    assert last == (
        "there is no validation split: config.data.validation: a share of 0.001 of 90 examples "
        "rounds to none"
    )
    single = npz(tmp_path, x=inputs[:9], y=np.arange(9), x_test=inputs[:9], y_test=np.arange(9))
    *_, last = described(**single, **{"data.validation": 0.5})
    assert "each of the 9 classes has a single example, which stays in train" in last
    with pytest.raises(UserError, match=r"nothing to judge by: each of the 9 classes has a single"):
        folds.load(config_of(**single, **{"data.validation": 0.5}))


def test_a_search_takes_the_official_validation_split_or_cuts_all(tmp_path):
    inputs, labels = RANDOM.normal(size=(60, 2)).astype(np.float32), np.arange(60) % 2
    data = npz(tmp_path, x_train=inputs[:40], y_train=labels[:40], x_val=inputs[40:],
               y_val=labels[40:], x_test=inputs, y_test=labels)  # fmt: skip
    config = config_of(**data, **{"data.validation": 0.0})
    held_out = folds.load(config)
    np.testing.assert_array_equal(held_out.arrays["inputs"], inputs[:40])
    np.testing.assert_array_equal(held_out.run.validation.inputs, inputs[40:])
    assert held_out.description() == setup.from_config(config).description()
    crossed = folds.load(config, folds=3)
    np.testing.assert_array_equal(crossed.arrays["inputs"], inputs)
    assert crossed.sizes == (40, 40, 40)
    line, _, told = crossed.description()
    assert "40 train, 20 validation, 60 test" in line and line.endswith("the first of 3 cuts")
    assert told == "cross-validation cuts train and the data's own validation split together"
    with pytest.raises(UserError, match="repeats = 2: the data have a validation split of their"):
        folds.load(config, repeats=2)


def test_cuts_that_leave_a_class_out_of_train_are_told(tmp_path):
    inputs, labels = RANDOM.normal(size=(12, 2)), np.array([0] * 11 + [1])
    data = npz(tmp_path, x=inputs, y=labels, x_test=inputs, y_test=labels)
    told = folds.load(config_of(**data), folds=12).description()[-1]
    assert told == "in 1 of 12 cuts no example of some class is in train"


@pytest.mark.parametrize(
    "values",
    [
        {"model.name": "cnn"},
        {"model.name": "resnet"},
        {"augmentation.names": ("flip",)},
        {"preprocessing.name": "patch_whitening"},
    ],
)
def test_grey_images_without_a_channel_are_told_the_key_that_helps(tmp_path, values):
    images = RANDOM.random((40, 12, 12))
    config = config_of(**npz(tmp_path, images=images, labels=np.arange(40) % 2), **values)

    def start():
        jax.eval_shape(setup.from_config(config).init)

    with pytest.raises(UserError, match=r"\(12, 12\).*config.data.image_axes = 'NHW' reads"):
        start()
    config.data.image_axes = "NHW"
    start()


def test_a_line_stays_a_line():
    """Whatever is in the names of files and classes."""
    split = Arrays(np.zeros((2, 3), np.float32), np.zeros(2, np.int32))
    names = ("a\nb\x1b[31m", "x" * 1000)
    line = description.line("bad\r\nname", {"train": split}, names, "3 files")
    assert line.isprintable() and len(line) < 250 and line.endswith("; ignored: 3 files")
    (line,) = description.absent({"test": split}, names)
    assert line == f"test has no example of 1 of the 2 classes ({'x' * 37}...)"
