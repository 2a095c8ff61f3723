"""Preprocessing against float64 references, and that it sees train alone, all of it, once."""

import functools

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research import models
from research.config import default_config
from research.data import mirrored, moments, preprocessing, stream
from research.data.dataset import Arrays, Records
from research.data.feed import inverted, preprocess
from research.errors import UserError
from research.names import bind, public_functions
from research.training import final_test, setup

NUMBERS = {"components": 0, "epsilon": 1e-4, "patch_size": 3}
SCHEMES = {
    name: bind(function, NUMBERS, {})
    for name, function in public_functions(preprocessing).items()
    if name != "identity"  # of no statistics
}
WHITENING = ("pca_whitening", "zca")


def images(shift=0):
    random = np.random.default_rng(0)
    scale = np.array([20, 60, 5])
    return (shift + random.random((300, 6, 5, 3)) * scale).astype(np.uint8)


def smooth_images(examples=400):
    """Neighbours and channels are correlated, as in photographs; one pixel is always 9."""
    white = np.random.default_rng(1).standard_normal((examples, 8, 7, 3))
    for axis in (1, 2, 3):
        white = white + np.roll(white, 1, axis) + 0.5 * np.roll(white, 2, axis)
    result = (127 + 8 * white).clip(0, 255).astype(np.uint8)
    result[:, 0, 0] = 9
    return result


def flat(inputs):
    return np.asarray(inputs, np.float64).reshape(len(inputs), -1)


def covariance(outputs):
    return np.cov(flat(outputs).T, bias=True)


def condition(inputs):
    """Largest over smallest variance along the principal components that vary at all."""
    variances = np.linalg.eigvalsh(covariance(inputs))
    return variances[-1] / variances[variances > 1e-9 * variances[-1]][0]


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_gives_finite_float32_even_for_constant_inputs(name):
    for inputs in (images(), np.full((30, 3, 3, 1), 7, np.uint8), np.ones((5, 2), np.float32)):
        if name == "patch_whitening" and inputs.ndim == 2:
            continue
        statistics = SCHEMES[name]([inputs])
        assert {"shift", "scale"} <= set(statistics)
        assert {value.dtype for value in statistics.values()} == {np.dtype(np.float32)}
        result = preprocess(statistics, inputs)
        assert result.dtype == np.float32 and len(result) == len(inputs)
        assert result.shape == inputs.shape or name.startswith("pca")
        assert np.isfinite(result).all()


@pytest.mark.parametrize(
    ("name", "axes"),
    [("global_standard", (0, 1, 2, 3)), ("per_channel", (0, 1, 2)), ("per_pixel", (0,))],
)
def test_standardising_gives_mean_0_and_deviation_1(name, axes):
    result = np.asarray(preprocess(SCHEMES[name]([images(100)]), images(100)), np.float64)
    # A shift near 100 and a deviation from 1.4: float32 rounds the mean to 100 * 2**-24 / 1.4.
    np.testing.assert_allclose(result.mean(axes), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axes), 1, atol=2e-6)


def test_mean_image():
    result = np.asarray(preprocess(SCHEMES["mean_image"]([images()]), images()), np.float64)
    np.testing.assert_allclose(result.mean(0), 0, atol=2e-6)
    np.testing.assert_allclose(result.std(), 1, atol=2e-6)


def test_min_max_spans_minus_one_to_one():
    result = preprocess(SCHEMES["min_max"](np.array_split(images(9), 7)), images(9))
    assert result.min() == pytest.approx(-1) and result.max() == pytest.approx(1)


def test_none_scales_bytes_only():
    assert preprocess(SCHEMES["none"]([images()]), np.uint8([255])) == pytest.approx(1)
    assert preprocess(SCHEMES["none"]([np.ones((1, 2))]), np.float32([255])) == 255


@pytest.mark.parametrize("size", [1e-30, 1e-7, 1e30])
def test_a_feature_is_constant_by_rounding_not_by_its_size(size):
    """In every scheme: it has the same deviation whatever its unit is."""
    inputs = np.random.default_rng(0).standard_normal((500, 6))
    for name in sorted(set(SCHEMES) - {"none", "patch_whitening"}):
        expected, found = (scheme_outputs_in_float64(name, inputs * unit) for unit in (1.0, size))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=name)
    small = inputs.copy()
    small[:, 2] *= size
    for name in ("per_channel", "per_pixel"):
        outputs = preprocess(SCHEMES[name]([small]), small.astype(np.float32))
        np.testing.assert_allclose(np.std(outputs, 0), 1, rtol=1e-5)


def scheme_outputs_in_float64(name, inputs):
    statistics = {key: value.astype(np.float64) for key, value in SCHEMES[name]([inputs]).items()}
    outputs = (inputs - statistics["shift"]) * statistics["scale"]
    return outputs @ statistics["matrix"] if "matrix" in statistics else outputs


def test_patch_whitening_knows_no_unit_either():
    inputs = smooth_images(40).astype(np.float64)
    whole = SCHEMES["patch_whitening"]([inputs])
    tiny = SCHEMES["patch_whitening"]([inputs * 2.0**-60])
    np.testing.assert_allclose(tiny["scale"], whole["scale"] * 2.0**60, rtol=1e-6)
    np.testing.assert_allclose(tiny["filters"], whole["filters"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", sorted(set(SCHEMES) - {"none", "patch_whitening"}))
def test_what_rounding_makes_of_a_constant_is_not_blown_up(name):
    """Sums of 0.1 in float64 differ by an ulp; the variance of equal numbers is exactly 0."""
    random = np.random.default_rng(0)
    rounded = 0.3 + 5.6e-17 * random.integers(0, 2, (1000, 5))
    for inputs in (rounded, rounded * 1e9, np.full((1000, 5), 0.1), np.full((9, 5), 1e8 / 7)):
        for chunks in ([inputs], [inputs[:3], inputs[3:]]):
            statistics = SCHEMES[name](chunks)
            assert statistics["scale"].max() == 1.0
    for row in (0, 7):  # one value is enough to be none, even the one that sums are taken about
        few = np.zeros((1000, 5))
        few[row, 1] = 1e-9
        _, _, variance = moments.moments([few], moments.EXAMPLE)
        np.testing.assert_allclose(np.sqrt(variance), [0, few[:, 1].std(), 0, 0, 0], rtol=1e-9)


def test_scales_beyond_float32_are_cut_off_without_a_word(recwarn):
    for size in (1e-320, 1e-45, 1e38):
        inputs = np.random.default_rng(0).standard_normal((50, 2)) * size
        for name in ("per_pixel", "mean_image", "min_max", "pca"):
            statistics = SCHEMES[name]([inputs])
            assert 2.0**-126 <= statistics["scale"].min() <= statistics["scale"].max() <= 2.0**126
    assert not recwarn.list


def test_a_large_offset_costs_no_digits():
    inputs = 1e6 + np.random.default_rng(0).standard_normal((9000, 2))
    statistics = SCHEMES["per_channel"]([inputs])
    np.testing.assert_allclose(1 / statistics["scale"], inputs.std(0), rtol=1e-6)
    _, _, found = moments.moments([inputs], moments.EXAMPLE, moments.products)
    np.testing.assert_allclose(found, np.cov(inputs.T, bias=True), rtol=1e-9)


def test_pca_decorrelates_by_the_eigenvectors_of_the_covariance():
    inputs = smooth_images()
    result = preprocess(SCHEMES["pca"]([inputs]), inputs)
    found = covariance(result)
    variances = np.diag(found)
    assert (np.diff(variances) < 1e-5).all() and variances.mean() == pytest.approx(1)
    assert np.abs(found - np.diag(variances)).max() < 1e-5 * variances[0]
    centred = flat(inputs) - flat(inputs).mean(0)
    singular = np.linalg.svd(centred, compute_uv=False)  # another way to the same numbers
    expected = singular**2 / np.sum(singular**2) * len(singular)
    np.testing.assert_allclose(variances, expected, rtol=1e-4, atol=1e-5)
    # A rotation: distances stay.
    scaled = centred / np.sqrt(covariance(inputs).trace() / len(singular))
    np.testing.assert_allclose(np.linalg.norm(result, axis=1), np.linalg.norm(scaled, axis=1), 1e-5)


@pytest.mark.parametrize("name", WHITENING)
def test_whitening_gives_covariance_one_but_for_epsilon(name):
    """Against float64; a direction with variance v is left with v / (v + epsilon)."""
    inputs = smooth_images()
    statistics = bind(getattr(preprocessing, name), {"components": 0, "epsilon": 1e-3}, {})(
        [inputs]
    )
    centred = flat(inputs) - flat(inputs).mean(0)
    matrix = np.cov(centred.T, bias=True)
    variances, directions = np.linalg.eigh(matrix / (matrix.trace() / len(matrix)))
    left = variances / (variances + 1e-3)
    found = covariance(preprocess(statistics, inputs))
    np.testing.assert_allclose(np.linalg.eigvalsh(found), np.sort(left), atol=2e-5)
    if name == "zca":  # in the pixels' own directions
        np.testing.assert_allclose(found, directions * left @ directions.T, atol=2e-5)
    assert condition(inputs) > 1e4 and condition(preprocess(statistics, inputs)) < 5


@pytest.mark.parametrize("name", WHITENING)
def test_with_the_smallest_epsilon_the_covariance_is_the_identity(name):
    inputs = smooth_images()[:, 1:]  # without the constant pixel
    scheme = bind(getattr(preprocessing, name), {"components": 0, "epsilon": 1e-6}, {})
    result = preprocess(scheme([inputs]), inputs)
    np.testing.assert_allclose(covariance(result), np.eye(147), atol=0.01)
    assert condition(result) < 1.01


def test_zca_is_the_symmetric_one():
    inputs = smooth_images()
    matrix = SCHEMES["zca"]([inputs])["matrix"].reshape(168, 168)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-5 * np.abs(matrix).max())
    assert np.linalg.eigvalsh(matrix).min() > 0


def test_components_are_the_first_ones():
    inputs = smooth_images()
    for scheme in (preprocessing.pca, preprocessing.pca_whitening):
        whole, part = (
            bind(scheme, {"components": count, "epsilon": 1e-4}, {})([inputs]) for count in (0, 5)
        )
        result = preprocess(part, inputs)
        assert result.shape == (400, 5)
        np.testing.assert_allclose(result, preprocess(whole, inputs)[:, :5], atol=1e-5)
        # Back again: what these components say of the inputs, and no more.
        again = inverted(part, result)
        assert again.shape == inputs.shape
        np.testing.assert_allclose(preprocess(part, again), result, atol=1e-4)


@pytest.mark.parametrize("name", SCHEMES)
def test_the_inverse_is_exact(name):
    inputs = smooth_images()
    statistics = SCHEMES[name]([inputs])
    again = inverted(statistics, preprocess(statistics, inputs))
    assert again.dtype == np.float64 and again.shape == inputs.shape
    np.testing.assert_allclose(again, inputs, atol=0.01)  # bytes


def test_patch_whitening_is_zca_of_patches_of_the_mirrored_images():
    """Filters against a covariance made of all patches, flipped ones too, in float64."""
    inputs, epsilon, size = smooth_images(50), 1e-3, 5
    scheme = preprocessing.patch_whitening
    statistics = scheme([inputs], patch_size=size, epsilon=epsilon)
    centred = inputs - inputs.mean((0, 1, 2))
    patches = []
    for image in (centred, centred[:, ::-1], centred[:, :, ::-1], centred[:, ::-1, ::-1]):
        wide = np.pad(image, ((0, 0), (2, 2), (2, 2), (0, 0)), "symmetric")
        found = np.lib.stride_tricks.sliding_window_view(wide, (size, size), (1, 2))
        patches.append(found.transpose(0, 1, 2, 4, 5, 3).reshape(-1, size * size * 3))
    patches = np.concatenate(patches)
    matrix = patches.T @ patches / len(patches)
    np.testing.assert_allclose(
        mirrored.covariance(mirrored.spectrum([inputs])[2], size), matrix, atol=1e-8 * matrix.max()
    )
    scale = np.sqrt(matrix.trace() / len(matrix))
    np.testing.assert_allclose(statistics["scale"], 1 / scale, rtol=1e-6)
    variances, directions = np.linalg.eigh(matrix / scale**2)
    whitening = directions / np.sqrt(variances + epsilon) @ directions.T
    whitened = patches[: len(patches) // 4] / scale @ whitening
    result = np.asarray(preprocess(statistics, inputs), np.float64)
    centre = size * size // 2 * 3
    np.testing.assert_allclose(
        result.reshape(-1, 3), whitened[:, centre : centre + 3], atol=1e-4 * np.abs(result).max()
    )
    # The channels of a pixel: what the covariance of whole patches says of their centres.
    left = directions * (variances / (variances + epsilon)) @ directions.T
    rows = result.reshape(-1, 3)
    np.testing.assert_allclose(
        rows.T @ rows / len(rows), left[centre : centre + 3, centre : centre + 3], atol=1e-3
    )


def test_patch_whitening_decorrelates_neighbours_and_evens_out_the_spectrum():
    def neighbours(inputs):
        inputs = np.asarray(inputs, np.float64)
        inputs = inputs - inputs.mean((0, 1, 2))
        return np.mean(inputs[:, 1:, 1:] * inputs[:, 1:, :-1]) / np.mean(np.square(inputs))

    inputs = smooth_images()[:, 1:, 1:]
    result = preprocess(SCHEMES["patch_whitening"]([inputs]), inputs)
    assert neighbours(inputs) > 0.5 and abs(neighbours(result)) < 0.1
    assert condition(result) < condition(inputs) / 20


BYTES = smooth_images(40)[:, :4, :3, :1]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(sorted(SCHEMES)), st.integers(1, 41))
def test_a_fit_in_chunks_of_any_size_is_the_fit_of_the_whole(name, size):
    whole = SCHEMES[name]([BYTES])
    parts = SCHEMES[name](BYTES[start : start + size] for start in range(0, 40, size))
    for key, value in whole.items():
        if name == "patch_whitening":  # cosines are not whole numbers
            np.testing.assert_allclose(parts[key], value, rtol=1e-4, atol=1e-5)
        else:  # to the bit: sums of bytes are exact in float64
            np.testing.assert_array_equal(parts[key], value)


def test_a_fit_reads_its_data_once_and_a_chunk_at_a_time():
    """From disk as from memory: all examples, in order, none held longer than needed."""

    def read_into(seen: list, number: int):
        seen.append(number)
        return BYTES[number], 0

    for scheme in SCHEMES.values():
        seen = []  # of its own: what `none` leaves may still be read when the next one begins
        read = functools.partial(read_into, seen)
        records = Records(read, np.arange(40), BYTES.shape[1:], 1, "test", None)
        found = scheme(chunk.inputs for chunk in stream.chunks(records, 7))
        assert sorted(seen) == list(range(40)) or scheme.func is preprocessing.none
        arrays = Arrays(BYTES, np.zeros(40, np.int32))
        again = scheme(chunk.inputs for chunk in stream.chunks(arrays, 40))
        for key, value in again.items():
            np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "numbers", "told"),
    [
        ("pca", {"components": 13}, "components = 13 is more than the 12 features"),
        ("pca", {}, "5 examples are too few for 12 .*components from 1 to 4"),
        ("pca_whitening", {"components": 5}, "5 examples are too few for 5"),
        ("zca", {}, "5 examples are too few for 12"),
        (
            "patch_whitening",
            {"patch_size": 2},
            "patch_size = 2 on images of 4 x 3 .*odd, at most 3",
        ),
        ("patch_whitening", {"patch_size": 5}, "patch_size = 5"),
    ],
)
def test_what_cannot_be_fitted_is_told_in_one_line(name, numbers, told):
    scheme = bind(getattr(preprocessing, name), NUMBERS | numbers, {})
    with pytest.raises(UserError, match=told) as caught:
        scheme([BYTES[:5]])
    assert "\n" not in str(caught.value)


def test_few_examples_have_few_components():
    statistics = bind(preprocessing.pca_whitening, NUMBERS | {"components": 4}, {})([BYTES[:5]])
    np.testing.assert_allclose(covariance(preprocess(statistics, BYTES[:5])), np.eye(4), atol=1e-3)


def test_inputs_too_large_to_whiten_are_refused_before_they_are_read():
    def chunks():
        yield np.zeros((1, 65, 64, 3), np.uint8)
        raise AssertionError("read on")

    with pytest.raises(UserError, match="12480 features have too large a covariance matrix"):
        SCHEMES["zca"](chunks())


def config_of(**changes):
    config = default_config()
    config.update_from_flattened_dict(changes)
    return config


@pytest.mark.parametrize("name", SCHEMES)
def test_statistics_come_from_train_alone(name, tmp_path):
    """Neither validation nor test may leak into what the network is fed."""
    random = np.random.default_rng(0)
    labels = np.arange(120) % 3
    data = {
        "x_train": random.integers(0, 256, (120, 4, 4, 1)).astype(np.uint8),
        "y_train": labels,
        "x_test": random.integers(0, 256, (30, 4, 4, 1)).astype(np.uint8),
        "y_test": labels[:30],
    }
    path = tmp_path / "data.npz"
    config = config_of(**{
        "data.name": "npz", "data.path": str(path), "data.validation": 0.2, "batch_size": 8,
        "preprocessing.name": name,
    })  # fmt: skip

    def fitted(data):
        np.savez(path, **data)
        return setup.from_config(config)

    run = fitted(data)
    held_out = (data["x_train"][:, None] == run.validation.inputs).all((2, 3, 4)).any(1)
    assert held_out.sum() == len(run.validation) == 24
    others = data["x_train"].copy()
    others[held_out] = 255
    again = fitted(data | {"x_train": others, "x_test": np.full_like(data["x_test"], 255)})
    jax.tree.map(np.testing.assert_array_equal, run.statistics, again.statistics)
    # They would be seen, if they were looked at.
    others[~held_out] = 255 - others[~held_out] // 2
    if name != "none":
        changed = fitted(data | {"x_train": others}).statistics
        assert any(not np.array_equal(changed[key], run.statistics[key]) for key in changed)


@pytest.mark.parametrize("name", sorted(SCHEMES))
def test_every_model_takes_what_comes_out(name):
    for model in models.names():
        run = setup.from_config(config_of(**{
            "preprocessing.name": name, "model.name": model, "model.depth": 8,
            "model.channels": (4,), "model.hidden": (4,),
        }))  # fmt: skip
        if model != "mlp" and name.startswith("pca"):  # vectors
            with pytest.raises(UserError, match="takes images"):
                jax.eval_shape(run.init)
        else:
            jax.eval_shape(run.init)


def test_cutmix_needs_images_after_preprocessing_too():
    changes = {"preprocessing.name": "pca", "augmentation.mixing": "cutmix"}
    with pytest.raises(UserError, match="'cutmix' works on images, config.preprocessing.name"):
        setup.from_config(config_of(**changes))


def test_first_filters_are_shown_as_they_act_on_pixels():
    """What a dense layer says of an image is the product of the picture and the pixels."""
    run = setup.from_config(config_of(**{"model.hidden": (5,)}))
    state = run.init()
    inputs = run.train.inputs[:20]
    kernel = np.asarray(state.params["Dense_0"]["kernel"], np.float64)
    for name in ("per_channel", "pca", "zca", "patch_whitening"):
        statistics = SCHEMES[name]([run.train.inputs])
        filters = final_test._first_filters(state.replace(preprocessing=statistics), (8, 8, 1))
        assert filters.shape == (5, 8, 8, 1)
        expected = flat(preprocess(statistics, inputs)) @ kernel
        centred = (inputs - statistics["shift"]) * statistics["scale"]
        got = flat(centred) @ flat(filters).T
        np.testing.assert_allclose(got, expected, atol=1e-4 * np.abs(expected).max())


def test_identity_leaves_inputs_and_their_dtype_alone():
    for inputs in (np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 3), np.float32)):
        statistics = preprocessing.identity([inputs])
        assert statistics == {}
        passed = preprocess(statistics, jax.numpy.asarray(inputs))
        assert passed.dtype == inputs.dtype
        np.testing.assert_array_equal(passed, inputs)
        np.testing.assert_array_equal(inverted(statistics, inputs), inputs)
    for inputs, offset in (
        (np.zeros((2, 3), np.uint8), 0.0),
        (np.ones((2, 3)), np.array([0, 1e9])),
    ):
        with pytest.raises(UserError, match="'identity' leaves inputs as they are, and these"):
            preprocessing.identity([inputs], offset)
