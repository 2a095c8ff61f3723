"""Images as they are meant to be seen: turned, on their background, with all of their bits."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from research.config import default_config
from research.data.images import options, read_header, read_image
from research.errors import UserError

RANDOM = np.random.default_rng(0)
PICTURE = RANDOM.integers(0, 256, (6, 9, 3)).astype(np.uint8)
# How EXIF (CIPA DC-008, table of tag 274) says that the stored rows and columns are to be seen.
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


def encoded(image, kind="PNG", **values) -> bytes:
    if isinstance(image, np.ndarray):
        image = Image.fromarray(image)
    file = io.BytesIO()
    image.save(file, kind, **values)
    return file.getvalue()


def pixels(source: bytes, image_size=0, channels=0, **values) -> np.ndarray:
    return read_image(source, "image 5", image_size, channels, **values)[0]


def png(samples: np.ndarray, depth: int, kind: int, key: tuple = ()) -> bytes:
    """Samples (H, W, C) of a number of bits; kind: PNG's colour type; key: what is transparent."""

    def chunk(name, body):
        check = struct.pack(">I", zlib.crc32(name + body))
        return struct.pack(">I", len(body)) + name + body + check

    height, width = samples.shape[:2]
    if depth == 16:
        rows = [row.astype(">u2").tobytes() for row in samples]
    else:
        bits = [np.unpackbits(row.astype(np.uint8)[..., None], axis=-1) for row in samples]
        rows = [np.packbits(row[..., -depth:].ravel()).tobytes() for row in bits]
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    transparent = chunk(b"tRNS", struct.pack(f">{len(key)}H", *key)) if key else b""
    parts = (chunk(b"IHDR", header), transparent, chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def tiff(samples: np.ndarray, order: str, **tags) -> bytes:
    """Samples (H, W, C) in one strip, their bytes in the order '<' or '>'."""
    height, width, channels = samples.shape
    data = samples.astype(samples.dtype.newbyteorder(order)).tobytes()
    kind = {"u": 1, "i": 2, "f": 3}[samples.dtype.kind]
    fields = {
        256: (4, [width]), 257: (4, [height]), 258: (3, [8 * samples.itemsize] * channels),
        259: (3, [1]), 262: (3, [2 if channels > 2 else 1]), 273: (4, [8]), 277: (3, [channels]),
        278: (4, [height]), 279: (4, [len(data)]), 339: (3, [kind] * channels),
    }  # fmt: skip
    if channels in (2, 4):
        fields[338] = 3, [2]  # alpha
    fields.update({int(tag[1:]): (3, [value]) for tag, value in tags.items()})
    directory, behind = 8 + len(data), b""
    entries = struct.pack(order + "H", len(fields))
    after = directory + 2 + 12 * len(fields) + 4
    for tag, (form, values) in sorted(fields.items()):
        body = struct.pack(f"{order}{len(values)}{'H' if form == 3 else 'I'}", *values)
        if len(body) > 4:
            behind, body = behind + body, struct.pack(order + "I", after + len(behind))
        entries += struct.pack(order + "HHI", tag, form, len(values)) + body.ljust(4, b"\0")
    head = (b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, directory)
    return head + data + entries + bytes(4) + behind


@pytest.mark.parametrize("orientation", TURNED)
def test_images_are_turned_as_their_exif_data_say(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    want = TURNED[orientation](PICTURE)
    for kind, values in (
        ("PNG", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
        ("WEBP", {"lossless": True}),
    ):
        np.testing.assert_array_equal(pixels(encoded(PICTURE, kind, exif=exif, **values)), want)
    smooth = np.add.outer(np.arange(48) * 3, np.arange(24)).astype(np.uint8)
    found = pixels(encoded(smooth, "JPEG", quality=98, exif=exif))[..., 0].astype(int)
    assert np.abs(found - TURNED[orientation](smooth)).max() <= 3
    xmp = f'<x:xmpmeta xmlns:x="adobe:ns:meta/" tiff:Orientation="{orientation}"/>'.encode()
    np.testing.assert_array_equal(pixels(encoded(PICTURE, "WEBP", lossless=True, xmp=xmp)), want)


def test_images_are_turned_before_they_are_resized_and_with_all_their_bits():
    exif = Image.Exif()
    exif[274] = 6
    image = Image.fromarray(PICTURE.repeat(3, axis=1))  # 27 x 6: what is cut off lies on one side
    turned = image.transpose(Image.Transpose.ROTATE_270)
    found = pixels(encoded(image, exif=exif), 4)
    np.testing.assert_array_equal(found, pixels(encoded(turned), 4))
    deep = RANDOM.integers(0, 65_536, (4, 7, 1)).astype(np.uint16)
    for orientation, turn in TURNED.items():
        source = tiff(np.repeat(deep, 3, axis=-1), "<", t274=orientation)
        np.testing.assert_array_equal(pixels(source), turn(np.repeat(deep, 3, axis=-1)))
        exif[274] = orientation
        np.testing.assert_array_equal(pixels(encoded(deep[..., 0], exif=exif)), turn(deep))


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\0\x01", b"junk" * 20])
def test_damaged_exif_data_say_nothing(exif):
    np.testing.assert_array_equal(pixels(encoded(PICTURE, exif=exif)), PICTURE)


def on(colours, alpha, background):
    """What a viewer shows, in float64: alpha in [0, 1]."""
    return alpha * colours.astype(float) + (1 - alpha) * np.asarray(background, float)


@pytest.mark.parametrize("background", [(255, 255, 255), (0, 0, 0), (255, 128, 10)])
def test_transparent_images_are_laid_on_the_background(background):
    alpha = RANDOM.integers(0, 256, (6, 9, 1)).astype(np.uint8)
    alpha[0], alpha[1] = 0, 255
    rgba = np.concatenate([PICTURE, alpha], axis=-1)
    want = on(PICTURE, alpha / 255, background)
    for kind, values in (("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True, "exact": True})):
        found = pixels(encoded(rgba, kind, **values), background=background)
        assert np.abs(found - want).max() <= 1
        np.testing.assert_array_equal(found[1], PICTURE[1])  # opaque: untouched
        assert (found[0] == background).all()
    grey = Image.merge("LA", [Image.fromarray(PICTURE[..., 0]), Image.fromarray(alpha[..., 0])])
    want = on(PICTURE[..., :1], alpha / 255, background)
    found = pixels(encoded(grey), channels=3, background=background)
    assert np.abs(found - want).max() <= 1
    if len(set(background)) == 1:  # grey on grey
        assert np.abs(pixels(encoded(grey), background=background) - want[..., :1]).max() <= 1


def test_palettes_and_keys_may_be_transparent():
    white, red = (255, 255, 255), (255, 0, 0)
    image = Image.new("P", (4, 2), 1)
    image.putpalette([9, 9, 9, 0, 200, 0, 0, 0, 250])
    image.putpixel((0, 0), 2)
    for kind, transparency in (("PNG", 1), ("GIF", 1), ("PNG", b"\xff\x00\xff")):
        found = pixels(encoded(image, kind, transparency=transparency), background=red)
        assert found[0, 0].tolist() == [0, 0, 250] and (found[0, 1:] == red).all()
    half = pixels(encoded(image, transparency=b"\xff\x80\xff"), background=white)
    assert np.abs(half[1, 1] - on(np.array([0, 200, 0]), 128 / 255, white)).max() <= 1
    opaque = pixels(encoded(image))
    assert opaque[1, 1].tolist() == [0, 200, 0]
    for depth in (1, 2, 4, 8):
        samples = np.arange(8).reshape(2, 4, 1) % 2**depth
        found = pixels(png(samples, depth, 0, (1,)))
        np.testing.assert_array_equal(
            found, np.where(samples == 1, 255, samples * (255 // (2**depth - 1)))
        )
    colours = np.array([[[1, 2, 3], [1, 2, 4]]])
    assert pixels(png(colours, 8, 2, (1, 2, 3))).tolist() == [[[255] * 3, [1, 2, 4]]]
    deep = np.array([[[300, 2, 3], [300, 2, 4]]])
    assert pixels(png(deep, 16, 2, (300, 2, 3))).tolist() == [[[65535] * 3, [300, 2, 4]]]
    assert pixels(png(deep[..., 2:], 16, 0, (3,))).tolist() == [[[65535], [4]]]


@pytest.mark.parametrize("low", [0, 40_000])
def test_all_16_bits_are_kept(low):
    for channels, kind in ((1, 0), (3, 2), (4, 6), (2, 4)):
        samples = RANDOM.integers(low, low + 256, (5, 7, channels)).astype(np.uint16)
        if channels in (2, 4):
            samples[..., -1] = 65_535
        colours = samples[..., :-1] if channels in (2, 4) else samples
        sources = [png(samples, 16, kind)]
        if channels != 2:  # which Pillow does not read
            sources += [tiff(samples, "<"), tiff(samples, ">")]
        for source in sources:
            found = pixels(source)
            assert found.dtype == np.float32
            np.testing.assert_array_equal(found, colours)
        grey = pixels(sources[0], channels=1)
        want = colours if channels < 3 else colours @ np.array([[0.299], [0.587], [0.114]])
        np.testing.assert_allclose(grey, want, rtol=1e-6)
    squeezed = encoded(Image.fromarray(samples[..., 0]), "TIFF", compression="tiff_adobe_deflate")
    np.testing.assert_array_equal(pixels(squeezed)[..., 0], samples[..., 0])


def test_transparency_of_16_bits():
    samples = RANDOM.integers(0, 65_536, (5, 7, 4)).astype(np.uint16)
    for part, kind in ((samples, 6), (samples[..., 2:], 4)):
        alpha = part[..., -1:] / 65_535
        want = on(part[..., :-1], alpha, 65_535)
        np.testing.assert_allclose(pixels(png(part, 16, kind)), want, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("dtype", [np.int32, np.uint32, np.float32, np.int16])
def test_integers_of_32_bits_and_floats_are_what_the_file_says(dtype):
    low, high = (-300, 300) if np.dtype(dtype).kind != "u" else (2**31, 2**31 + 2**20)
    samples = RANDOM.uniform(low, high, (5, 7, 1)).astype(dtype)
    for order in "<>"[: 1 if dtype == np.uint32 else 2]:  # the other is unknown to Pillow
        found, header = read_image(tiff(samples, order), "image 5")
        np.testing.assert_array_equal(found, samples.astype(np.float32))
        assert header.rounded == (dtype == np.uint32)
    if dtype == np.float32:
        np.testing.assert_allclose(pixels(tiff(samples, "<"), 4).mean(), samples.mean(), atol=80)
        samples[2, 3] = np.nan
        with pytest.raises(UserError, match="image 5 holds numbers that are not finite"):
            pixels(tiff(samples, "<"))


def test_deep_images_are_resized_like_others():
    deep = PICTURE.astype(np.uint16) * 257
    want = pixels(encoded(PICTURE), 4).astype(float)
    found = pixels(tiff(deep, "<"), 4)
    assert found.shape == (4, 4, 3) and np.abs(found / 257 - want).max() <= 1


def test_other_modes():
    cmyk = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    for kind in ("JPEG", "TIFF"):
        assert np.abs(pixels(encoded(cmyk, kind))[0, 0].astype(int) - [255, 0, 0]).max() <= 4
    bits = Image.fromarray(PICTURE[..., 0] > 127)
    np.testing.assert_array_equal(pixels(encoded(bits))[..., 0], (PICTURE[..., 0] > 127) * 255)
    np.testing.assert_array_equal(pixels(encoded(PICTURE) + b"trailing" * 9), PICTURE)
    frames = [Image.fromarray(PICTURE), Image.fromarray(PICTURE[::-1])]
    for kind, values in (("WEBP", {"lossless": True}), ("TIFF", {}), ("PNG", {})):
        several = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **values)
        np.testing.assert_array_equal(pixels(several), PICTURE)
        assert read_image(several, "image 5")[1].several
    colours = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "lime")]
    several = encoded(colours[0], "GIF", save_all=True, append_images=colours[1:])
    found, header = read_image(several, "image 5")
    assert header.several and (found == (255, 0, 0)).all()


def test_what_pillow_would_cut_to_8_bits_is_refused():
    for source in (b"P6\n1 1\n65535\n\x01\0\0\5\x10\0", b"P3\n1 1\n4095\n1 2 3\n"):
        with pytest.raises(UserError, match="image 5: 16 bits a channel in the form RGB"):
            pixels(source)
    assert pixels(b"P5\n2 1\n65535\n\x01\0\0\5").tolist() == [[[256], [5]]]
    assert pixels(b"P2\n2 1\n255\n9 255\n").tolist() == [[[9], [255]]]


def test_headers(tmp_path):
    path = tmp_path / "file"
    deep = png(PICTURE.astype(np.uint16), 16, 2)
    for source, want in (
        (encoded(PICTURE), (True, "8 bits", False, False)),
        (encoded(PICTURE[..., 0], "JPEG"), (False, "8 bits", False, False)),
        (deep, (True, "16 bits", False, False)),
        (encoded(Image.new("LA", (3, 3))), (False, "8 bits", True, False)),
        (png(PICTURE[..., :2].astype(np.uint16), 16, 4), (False, "16 bits", True, False)),
        (tiff(PICTURE[..., :1].astype(np.float32), "<"), (False, "floats", False, False)),
        (tiff(PICTURE[..., :1].astype(np.int32), "<"), (False, "32 bits", False, False)),
    ):
        path.write_bytes(source)
        assert read_header(path)[:4] == want
    for source in (b"", b"text", b"Python", b"P", encoded(PICTURE)[:20], b"%!PS-Adobe-3.0"):
        path.write_bytes(source)
        assert read_header(path) is None


def test_a_large_photo_names_the_key_that_reads_it():
    photo = encoded(Image.new("L", (1200, 900)))
    with pytest.raises(UserError, match=r"1200 x 900 .*config.data.max_megapixels = 2"):
        pixels(photo, max_megapixels=1)
    assert pixels(photo, 10, max_megapixels=2).shape == (10, 10, 1)


def test_backgrounds_are_colours():
    data = default_config().data
    assert options(data)["background"] == (255, 255, 255)
    data.background = "#102030"
    assert options(data)["background"] == (16, 32, 48)
    data.background = "whit"
    with pytest.raises(UserError, match=r"config.data.background = 'whit' .*did you mean 'white'"):
        options(data)
