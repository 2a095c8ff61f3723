"""Every augmentation keeps shape and dtype and is a function of its key."""

import jax
import numpy as np
import pytest

from research.data import augmentation
from research.names import public_functions

AUGMENTATIONS = public_functions(augmentation)


def images(shape=(64, 8, 6, 3)):
    return np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_shape_dtype_and_key(name):
    function = jax.jit(AUGMENTATIONS[name])
    for shape in ((64, 8, 6, 3), (1, 2, 2, 1), (0, 8, 8, 3)):
        result = function(jax.random.key(0), images(shape))
        assert result.shape == shape and result.dtype == np.uint8
    first, again, other = (function(jax.random.key(seed), images()) for seed in (0, 0, 1))
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_flip_mirrors_about_half_of_the_images():
    before = images((2000, 3, 3, 1))
    after = np.asarray(augmentation.flip(jax.random.key(0), before))
    same = (after == before).all((1, 2, 3))
    mirrored = (after == before[:, :, ::-1]).all((1, 2, 3))
    assert (same | mirrored).all()
    assert abs(mirrored.mean() - 0.5) < 4 * 0.5 / np.sqrt(2000)


def test_crop_moves_each_image_by_its_own_offset():
    before = images((500, 9, 9, 1))
    after = np.asarray(augmentation.crop(jax.random.key(0), before))
    padded = np.pad(before, ((0, 0), (4, 4), (4, 4), (0, 0)), mode="reflect")
    seen = set()
    for image, source in zip(after, padded, strict=True):
        found = [
            (row, column)
            for row in range(9)
            for column in range(9)
            if np.array_equal(image, source[row : row + 9, column : column + 9])
        ]
        assert found
        seen.update(found)
    assert len(seen) > 70  # of 81
