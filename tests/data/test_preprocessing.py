"""Preprocessing against float64 references, and that it sees train alone."""

import numpy as np
import pytest

from research.config import default_config
from research.data import preprocessing
from research.data.feed import preprocess
from research.names import public_functions
from research.training import setup

SCHEMES = public_functions(preprocessing)


def images(shift=0):
    random = np.random.default_rng(0)
    scale = np.array([20, 60, 5])
    return (shift + random.random((300, 6, 5, 3)) * scale).astype(np.uint8)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_gives_finite_float32_even_for_constant_inputs(name):
    for inputs in (images(), np.full((4, 3, 3, 1), 7, np.uint8), np.ones((5, 2), np.float32)):
        statistics = SCHEMES[name](inputs)
        assert {key: value.dtype for key, value in statistics.items()} == {
            "shift": np.float32,
            "scale": np.float32,
        }
        result = preprocess(statistics, inputs)
        assert result.dtype == np.float32 and result.shape == inputs.shape
        assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("name", "axes"),
    [("global_standard", (0, 1, 2, 3)), ("per_channel", (0, 1, 2)), ("per_pixel", (0,))],
)
def test_standardising_gives_mean_0_and_deviation_1(name, axes):
    result = np.asarray(preprocess(SCHEMES[name](images(100)), images(100)), np.float64)
    # A shift near 100 and a deviation from 1.4: float32 rounds the mean to 100 * 2**-24 / 1.4.
    np.testing.assert_allclose(result.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axes), 1, atol=2e-6)


def test_mean_image():
    result = np.asarray(preprocess(SCHEMES["mean_image"](images()), images()), np.float64)
    np.testing.assert_allclose(result.mean(0), 0, atol=2e-6)
    np.testing.assert_allclose(result.std(), 1, atol=2e-6)


def test_min_max_spans_minus_one_to_one():
    result = preprocess(SCHEMES["min_max"](images(9)), images(9))
    assert result.min() == pytest.approx(-1) and result.max() == pytest.approx(1)


def test_none_scales_bytes_only():
    assert preprocess(SCHEMES["none"](images()), np.uint8([255])) == pytest.approx(1)
    assert preprocess(SCHEMES["none"](np.ones((1, 2))), np.float32([255])) == 255


def test_a_large_offset_costs_no_digits():
    inputs = 1e6 + np.random.default_rng(0).standard_normal((9000, 2))
    statistics = preprocessing.per_channel(inputs)
    np.testing.assert_allclose(1 / statistics["scale"], inputs.std(0), rtol=1e-6)


def test_statistics_come_from_train_alone():
    """Neither validation nor test may leak into what the network is fed."""
    config = default_config()
    config.data.name = "moons"
    run = setup.from_config(config)
    expected = preprocessing.per_channel(run.train.inputs)
    for key, value in expected.items():
        np.testing.assert_array_equal(run.statistics[key], value)
    everything = np.concatenate([run.train.inputs, run.validation.inputs])
    assert not np.array_equal(preprocessing.per_channel(everything)["shift"], expected["shift"])
