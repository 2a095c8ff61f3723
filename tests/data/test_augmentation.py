"""Every augmentation keeps shape and dtype and is a function of its key."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.config import default_config
from research.data import augmentation, mixing, shuffle
from research.data.dataset import Records
from research.names import bind, numbers_of, public_functions
from research.training import fitted, hyperparameters, setup
from research.training.step import _augment, _value_range

NUMBERS = default_config().augmentation
BYTES, UNIT = (0.0, 255.0), (0.0, 1.0)


def of_a_batch(function):
    """With the config's numbers; the key stands for the seed of the run."""

    def augmented(key, images):
        seed = jax.random.bits(key)
        places = jnp.arange(len(images)), jnp.zeros(len(images), jnp.int32)
        known = dict(zip(("seed", "indices", "epochs"), (seed, *places), strict=True))
        known["value_range"] = BYTES if images.dtype == np.uint8 else UNIT
        return bind(function, NUMBERS, known)(key, images)

    return augmented


AUGMENTATIONS = {
    name: of_a_batch(function) for name, function in public_functions(augmentation).items()
}
MIXERS = {name: bind(f, NUMBERS, {}) for name, f in public_functions(mixing).items()}


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


def test_alternating_flip_shows_each_image_both_ways_in_two_epochs():
    """Through shuffled epochs that no batch fits: what each image was like in each epoch."""
    examples, batch_size, epochs = 501, 64, 4
    pictures = images((examples, 2, 3, 1))
    mirrored = np.zeros((2, epochs, examples), int) - 1
    for seed in (0, 1):
        for step in range(epochs * examples // batch_size):
            indices = shuffle.batch_indices(np.uint32(seed), step, batch_size, examples)
            at = shuffle.batch_epochs(step, batch_size, examples)
            before = pictures[indices]
            after = augmentation.alternating_flip(
                None, before, seed=seed, indices=indices, epochs=at
            )
            flipped = (np.asarray(after) == before[:, :, ::-1]).all((1, 2, 3))
            assert (flipped | (np.asarray(after) == before).all((1, 2, 3))).all()
            mirrored[seed, at, indices] = flipped
    mirrored = mirrored[:, :3]  # the last epoch is not whole
    assert (mirrored >= 0).all()
    assert (mirrored[:, :-1] + mirrored[:, 1:] == 1).all()
    for first in mirrored[:, 0]:
        assert abs(first.mean() - 0.5) < 4 * 0.5 / np.sqrt(examples)
    assert 0.4 < (mirrored[0, 0] == mirrored[1, 0]).mean() < 0.6  # another seed, other halves
    neighbours = mirrored[0, 0, 1:] == mirrored[0, 0, :-1]
    assert 0.4 < neighbours.mean() < 0.6


def test_crop_moves_each_image_by_its_own_offset():
    before = images((500, 9, 9, 1))
    after = np.asarray(AUGMENTATIONS["crop"](jax.random.key(0), before))
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


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_floats_stay_floats(name):
    result = AUGMENTATIONS[name](jax.random.key(0), jnp.asarray(images() / 255, jnp.float32))
    assert result.dtype == jnp.float32 and np.isfinite(result).all()


@pytest.mark.parametrize(
    ("name", "off"),
    [
        ("crop", {"crop_padding": 0}),
        ("cutout", {"cutout_size": 0.0}),
        ("noise", {"noise": 0.0}),
        ("color_jitter", {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0}),
    ],
)
def test_at_0_nothing_happens(name, off):
    function = bind(getattr(augmentation, name), NUMBERS, {**off, "value_range": BYTES})
    np.testing.assert_array_equal(function(jax.random.key(0), images()), images())


@pytest.mark.parametrize("size", [1, 4, 5])
def test_cutout_hides_a_square_and_nothing_else(size):
    before = images((300, 12, 10, 3))
    after = np.asarray(augmentation.cutout(jax.random.key(0), before, cutout_size=size))
    grey = np.round(before.mean((0, 1, 2)))
    corners = set()
    for old, new in zip(before, after, strict=True):
        hidden = (new == grey).all(-1)
        np.testing.assert_array_equal(new[~hidden], old[~hidden])
        rows, columns = np.flatnonzero(hidden.any(1)), np.flatnonzero(hidden.any(0))
        assert 1 <= len(rows) <= size and 1 <= len(columns) <= size
        assert hidden[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        corners.add((rows[0], columns[0]))
    assert len(corners) > 40
    sides = [(new == grey).all(-1).any(1).sum() for new in after]
    assert max(sides) == size


def test_noise_has_its_deviation():
    grey = np.full((50, 20, 20, 3), 128, np.uint8)
    after = augmentation.noise(jax.random.key(0), grey, noise=0.1, value_range=BYTES)
    after = np.asarray(after, np.float64)
    assert (after - 128).std() == pytest.approx(25.5, rel=0.02)


RANGED = ("noise", "color_jitter")


@pytest.mark.parametrize("name", [*RANGED, "cutout"])
def test_what_it_does_to_images_does_not_depend_on_their_unit(name):
    """The same on bytes, on 0 to 255 in float32, on 16 bits, and on what was normalised before."""
    bytes_ = images()
    units = {"0 to 255": (1.0, 0.0), "0 to 1": (1 / 255, 0.0), "16 bits": (257.0, 0.0),
             "-1 to 1": (2 / 255, -1.0)}  # fmt: skip
    function = getattr(augmentation, name)

    def augmented(inputs, value_range):
        known = {"value_range": value_range}
        return np.asarray(bind(function, NUMBERS, known)(jax.random.key(3), inputs), np.float64)

    expected = augmented(bytes_, BYTES)
    assert (expected != bytes_).mean() > 0.2
    for factor, least in units.values():
        inputs = (bytes_ * factor + least).astype(np.float32)
        bounds = (jnp.float32([least] * 3), jnp.float32([255 * factor + least] * 3))
        found = (augmented(inputs, bounds) - least) / factor
        assert np.abs(found - expected).max() < 0.51  # bytes are rounded


def test_a_run_measures_the_range_of_its_training_split(tmp_path):
    """Each channel's, of any dtype but uint8; and its step uses it."""
    random = np.random.default_rng(0)
    pictures = random.random((90, 6, 5, 2)) * [255, 3] - [0, 1]
    pictures[:, 0, 0] = [[0, -1]]
    pictures[:, 0, 1] = [[255, 2]]
    labels = np.arange(90) % 3
    config = default_config()
    config.data.name, config.data.path = "npz", str(tmp_path / "data.npz")
    config.batch_size, config.augmentation.names = 16, RANGED
    for inputs in (pictures, pictures.astype(np.float32), np.round(pictures).astype(np.int64)):
        np.savez(config.data.path, x_train=inputs, y_train=labels, x_test=2 * inputs, y_test=labels)
        run = setup.from_config(config)
        np.testing.assert_array_equal(run.statistics["low"], [0, -1])
        np.testing.assert_array_equal(run.statistics["high"], [255, 2])
    batch = {"inputs": jnp.asarray(run.train.inputs[:16])}
    numbers = hyperparameters.from_config(config, len(run.train))
    state = SimpleNamespace(hyperparameters=numbers, preprocessing=run.statistics, step=0)
    found = np.asarray(_augment(config, state, batch))
    changed = np.abs(found - run.train.inputs[:16]).mean((0, 1, 2))
    assert changed[0] > 5 and changed[1] < 1
    assert (found >= [0, -1]).all() and (found <= [255, 2]).all()
    np.savez(config.data.path, x=pictures.clip(0).astype(np.uint8), y=labels)
    assert set(setup.from_config(config).statistics) == {"shift", "scale"}


def test_the_range_of_images_on_disk_comes_with_the_fit():
    """In the one pass over them, even of a scheme that reads no more than a chunk."""
    pictures = np.random.default_rng(0).random((40, 4, 4, 1)).astype(np.float32) * 60_000
    read = []

    def image(number: int):
        read.append(number)
        return pictures[number], 0

    def labels():
        return np.zeros(40, np.int32)

    dtype = np.dtype(np.float32)
    records = Records(image, np.arange(40), (4, 4, 1), 1, "test", labels, dtype)
    for scheme in ("none", "per_channel"):
        config = default_config()
        config.preprocessing.name = scheme
        read.clear()
        found = fitted.fit(config, records, None)
        assert sorted(read) == list(range(40))
        assert (found["low"], found["high"]) == (pictures.min(), pictures.max())


def test_a_checkpoint_without_a_range_augments_as_it_did():
    pictures = jnp.asarray(images(), jnp.float32)
    known = {"value_range": None}
    found = bind(augmentation.noise, NUMBERS, known)(jax.random.key(0), pictures)
    assert float((found - pictures).std()) == pytest.approx(NUMBERS.noise, rel=0.05)
    assert _value_range(pictures, {"shift": 0, "scale": 1}) is None


def test_color_jitter_changes_only_what_it_says():
    before = jnp.asarray(images((200, 4, 4, 3)) / 255 * 0.4 + 0.3, jnp.float32)
    numbers = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "value_range": UNIT}

    def jitter(**changes):
        return np.asarray(augmentation.color_jitter(jax.random.key(0), before, **numbers | changes))

    x = np.asarray(before)
    ratio = jitter(brightness=0.3) / x
    assert np.ptp(ratio, axis=(1, 2, 3)).max() < 1e-4
    assert 0.7 <= ratio.min() < 0.75 and 1.25 < ratio.max() <= 1.3
    mean = x.mean((1, 2, 3), keepdims=True)
    strong = jitter(contrast=0.5)
    np.testing.assert_allclose(strong.mean((1, 2, 3)), mean[:, 0, 0, 0], rtol=1e-5)
    assert (strong.std((1, 2, 3)) / x.std((1, 2, 3))).max() > 1.3
    colorful = jitter(saturation=0.5)
    np.testing.assert_allclose(colorful.mean(3), x.mean(3), rtol=1e-4)
    assert not np.allclose(colorful, x, atol=0.02)


def mix(name, seed, inputs, targets, **changes):
    function = bind(getattr(mixing, name), NUMBERS, changes)
    return map(np.asarray, function(jax.random.key(seed), inputs, targets))


@pytest.mark.parametrize("name", MIXERS)
def test_targets_are_mixed_as_the_inputs_are(name):
    """Image i is all i, so that its pixels say what it is made of."""
    inputs = jnp.broadcast_to(jnp.arange(8.0)[:, None, None, None], (8, 10, 12, 1))
    shares = []
    for seed in range(60):
        images, targets = mix(name, seed, inputs, jnp.eye(8), mixup_alpha=1.0)
        np.testing.assert_allclose(targets.sum(1), 1, rtol=1e-6)
        np.testing.assert_allclose(images.mean((1, 2, 3)), targets @ np.arange(8), rtol=1e-5)
        assert ((targets > 0).sum(1) <= 2).all()
        assert np.ptp(np.diag(targets)) < 1e-6  # one share for the batch
        shares.append(targets[0, 0])
    if name == "none":
        assert set(shares) == {1.0}
    else:  # uniform, up to the borders that cut rectangles off
        assert 0.3 < np.mean(shares) < 0.8 and np.std(shares) > 0.15


def test_mixup_shares_are_of_the_beta_distribution():
    one = jnp.eye(2)
    for alpha in (0.2, 1.0, 4.0):

        def share(seed, alpha=alpha):
            key = jax.random.key(seed)
            return mixing.mixup(key, one, one, mixup_alpha=alpha)[1][0, 0]

        shares = np.asarray(jax.vmap(share)(jnp.arange(4000)))
        assert shares.mean() == pytest.approx(0.5, abs=0.03)
        assert shares.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.08)


@pytest.mark.parametrize("name", ["cutout", "noise", "color_jitter"])
def test_numbers_are_traced_lane_by_lane(name):
    function = getattr(augmentation, name)
    names = set(numbers_of(function)) - set(augmentation.OF_THE_BATCH)
    known = {"value_range": BYTES} if "value_range" in numbers_of(function) else {}

    def run(value):
        return function(jax.random.key(0), images(), **dict.fromkeys(names, value), **known)

    values = jnp.asarray([0.0, 0.3, 3.0])
    lanes = jax.jit(jax.vmap(run))(values)
    for lane, value in zip(lanes, values, strict=True):
        difference = np.abs(np.asarray(lane, int) - np.asarray(run(value), int))
        assert difference.max() <= 1  # rounding of bytes


def test_a_batch_of_one_has_no_partner():
    inputs, targets = mix("mixup", 0, jnp.ones((1, 4)), jnp.eye(3)[:1])
    np.testing.assert_allclose(targets, [[1, 0, 0]])
    np.testing.assert_allclose(inputs, 1)
