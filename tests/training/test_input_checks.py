"""Inputs that do not go with the config: refused, told in a line, or neither."""

import re

import numpy as np
import pytest

from research.config import default_config
from research.errors import UserError
from research.training import setup

RANDOM = np.random.default_rng(0)
NORMAL = RANDOM.standard_normal((500, 4))
LABELS = (NORMAL[:, 0] > 0).astype(int)


def config_of(**changes):
    config = default_config()
    config.batch_size = 16
    config.update_from_flattened_dict(changes)
    return config


def set_up(folder, train, test=None, **changes):
    """A run on an .npz; without `test` one that is cut from it."""
    path = folder / "data.npz"
    labels = LABELS[: len(train)]
    if test is None:
        np.savez(path, x=train, y=labels)
    else:
        np.savez(path, x_train=train, y_train=labels, x_test=test, y_test=labels[: len(test)])
    return setup.from_config(config_of(**{"data.name": "npz", "data.path": str(path), **changes}))


def with_value(value, row=17, column=3, dtype=np.float64):
    inputs = NORMAL.astype(dtype)
    inputs[row, column] = value
    return inputs


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -3.5e38])
def test_what_float32_cannot_hold_is_named(tmp_path, value, recwarn):
    named = re.escape(f"example 17, feature 3 is {np.float64(value)}, not finite in float32")
    with pytest.raises(UserError, match=f"data.npz.*x: {named}.*1 such examples"):
        set_up(tmp_path, with_value(value))
    with pytest.raises(UserError, match=f"x_test: {named}"):
        set_up(tmp_path, NORMAL, with_value(value))
    if abs(value) == np.inf:
        with pytest.raises(UserError, match="example 17, feature 3"):
            set_up(tmp_path, with_value(value, dtype=np.float16))
    images = np.zeros((500, 3, 4, 2))
    images[9, 1, 3, 0] = value
    with pytest.raises(UserError, match=re.escape("example 9, feature (1, 3, 0) is")):
        set_up(tmp_path, images)
    assert not recwarn.list


@pytest.mark.parametrize("value", [3e38, -1e30, 1e21])
def test_values_whose_squares_overflow_are_refused_by_split(tmp_path, value):
    """With the number of the example in the user's file, whichever split it went to."""
    for scheme in ("per_channel", "per_pixel", "mean_image", "pca", "zca", "none", "min_max"):
        with pytest.raises(UserError, match="example 17 of the test split, feature 3, is") as told:
            set_up(tmp_path, NORMAL, with_value(value), **{"preprocessing.name": scheme})
        assert "\n" not in str(told.value) and f"is {value:.6g}, and" in str(told.value)
    run = set_up(tmp_path, NORMAL)
    for name in ("validation", "test"):
        row = int(getattr(run, name).numbers[2])
        with pytest.raises(UserError, match=f"example {row} of the {name} split, feature 3"):
            set_up(tmp_path, with_value(value, row=row))
    row = int(run.train.numbers[2])
    with pytest.raises(UserError, match=f"example {row} of the train split, feature 3"):
        set_up(tmp_path, with_value(value, row=row), **{"preprocessing.name": "none"})


def test_a_difference_that_overflows_is_refused(tmp_path):
    far = NORMAL.copy()
    far[:, 1] = 2e38 * np.sign(NORMAL[:, 1])
    test = far[:20].copy()
    test[3, 1] = -3.4e38
    assert set_up(tmp_path, far[:, ::-1], far[:20, ::-1]).warnings() == []
    far += [0, 1.4e38, 0, 0]
    with pytest.raises(UserError, match="example 3 of the test split, feature 1, is -3.4e[+]38"):
        set_up(tmp_path, far, test)


def test_values_unlike_any_of_train_are_told(tmp_path):
    run = set_up(tmp_path, NORMAL, with_value(1e9))
    (line,) = run.warnings()
    assert re.match("example 17 of the test split, feature 3, is 1e[+]09, and .*train has at", line)
    assert set_up(tmp_path, NORMAL, with_value(40.0)).warnings() == []


def test_a_value_in_train_that_dwarfs_its_feature_is_told(tmp_path):
    run = set_up(tmp_path, with_value(1e12), NORMAL, **{"data.validation": 0.0})
    (line,) = run.warnings()
    assert line.startswith("example 17 of the train split, feature 3, is 1e+12; half of the values")
    heavy = np.exp(3 * NORMAL)  # as incomes are, and more
    rare = (RANDOM.random((500, 4)) < 0.01) * 1e6
    for inputs in (heavy, rare, NORMAL):
        assert set_up(tmp_path, inputs).warnings() == []


def test_differences_that_devices_take_for_0_are_told(tmp_path):
    for size, lost in ((1e-30, False), (1e-33, True), (1e-42, True)):
        inputs = (NORMAL * [1, 1, size, 1]).astype(np.float32)
        told = set_up(tmp_path, inputs).warnings()
        assert len(told) == lost and all("feature 2 varies by" in line for line in told)


SHARED = ("none", "min_max", "global_standard", "mean_image", "pca", "pca_whitening", "zca")


@pytest.mark.parametrize("name", SHARED)
def test_schemes_of_one_scale_say_which_features_they_lose(tmp_path, name):
    changes = {"preprocessing.name": name}
    large = NORMAL * [1, 1, 1e6, 1]
    small = NORMAL * [1, 1e-5, 1, 1]
    for inputs, lost, which in ((large, 3, "[013]"), (small, 1, "1")):
        (line,) = set_up(tmp_path, inputs, **changes).warnings()
        assert re.search(
            f"{name!r} .*feature {which} then varies by .*{lost} of 4.*per_pixel", line
        )
        for fitting in ("per_channel", "per_pixel"):
            assert set_up(tmp_path, inputs, **{"preprocessing.name": fitting}).warnings() == []
    constant = NORMAL * [1, 0, 1, 30]
    assert set_up(tmp_path, constant, **changes).warnings() == []


def test_one_scale_for_channels_of_a_series_or_an_image_is_told_too(tmp_path):
    series = RANDOM.standard_normal((500, 3, 6)) * np.array([1, 1e5, 1])[:, None]
    (line,) = set_up(tmp_path, series).warnings()  # per_channel takes the last axis together
    assert "'per_channel'" in line and "made for it: 'per_pixel'" in line
    assert set_up(tmp_path, series, **{"preprocessing.name": "per_pixel"}).warnings() == []
    images = RANDOM.random((500, 4, 5, 2)) * [1, 1e5]
    (line,) = set_up(tmp_path, images, **{"preprocessing.name": "mean_image"}).warnings()
    assert "channel 0 then varies" in line and "made for it: 'per_channel'" in line
    assert set_up(tmp_path, images).warnings() == []


@pytest.mark.parametrize("name", (*SHARED, "per_channel", "per_pixel"))
def test_images_with_dark_borders_are_no_mixed_scales(tmp_path, name):
    """Digits as bytes, as floats in both shapes: pixels at the corner are lit once, faintly."""
    digits = setup.from_config(config_of()).train.inputs
    pictures = digits[:500] / np.float32(255)
    pictures[:, 0, 0] = pictures[:, 7, 7] = 0
    pictures[3, 0, 0] = 1 / 255
    for inputs in (pictures, pictures[..., 0], pictures.reshape(500, 64)):
        assert set_up(tmp_path, inputs, **{"preprocessing.name": name}).warnings() == []
    assert setup.from_config(config_of(**{"preprocessing.name": name})).warnings() == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"names": ("cutout",)}, "cutout_size = 8 covers up to 100% of images of 8 x 8"),
        ({"names": ("cutout",), "cutout_size": 6.0}, "cutout_size = 6 covers up to 56%"),
        ({"names": ("cutout",), "cutout_size": 4.0}, None),
        ({"names": ("crop",)}, "crop_padding = 4 moves up to 75% .*out of sight"),
        ({"names": ("crop",), "crop_padding": 1}, None),
        ({"names": ("noise",), "noise": 0.6}, "noise = 0.6 is a deviation of 60%"),
        ({"names": ("noise", "color_jitter", "flip")}, None),
        ({"names": ("color_jitter",), "contrast": 1.5}, "contrast = 1.5 multiplies by 0 or less"),
        ({"cutout_size": 8.0}, None),
    ],
)
def test_augmentation_that_leaves_little_of_an_image_is_told(changes, told):
    """On digits, 8 x 8."""
    run = setup.from_config(
        config_of(**{f"augmentation.{key}": value for key, value in changes.items()})
    )
    found = run.warnings()
    assert len(found) == bool(told)
    if told:
        assert re.search(f"config.augmentation.{told}", found[0])


def test_noise_on_bytes_of_a_small_range_is_told(tmp_path):
    """It is a share of 255: bytes of 0 and 1 would drown in it."""
    images = RANDOM.integers(0, 2, (500, 6, 6)).astype(np.uint8)
    changes = {"augmentation.names": ("noise",)}
    (line,) = set_up(tmp_path, images, **changes).warnings()
    assert "config.augmentation.noise = 0.05 is a deviation of 1275% of the range" in line
    for inputs in (images * 255, images.astype(np.float32), images.astype(np.int64)):
        assert set_up(tmp_path, inputs[..., None], **changes).warnings() == []
