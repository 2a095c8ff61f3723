"""Read one image file and check it."""

import io
import math
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ml_collections import ConfigDict

from research.errors import UserError, closest

# Formats with a signature at their beginning. For some others Pillow would run other programs.
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "PPM", "WEBP", "TIFF")
_GREY = ("1", "L", "LA", "La", "I", "F")  # modes of Pillow, beside those of 16 bits
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # of red, green, blue: ITU-R BT.601, as Pillow
_METADATA = {"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"}
_ORIENTATION = 0x0112  # the tag of EXIF and TIFF


class Header(NamedTuple):
    """The properties that the header of an image states.

    Attributes:
      colour: whether the image is not grey.
      depth: depth of a channel: '8 bits' or less, '16 bits', '32 bits' or 'floats'.
      transparent: whether pixels may be transparent.
      several: whether the file holds further pictures: frames or pages.
      rounded: whether float32 loses digits of the pixels; False until the pixels are read.
    """

    colour: bool
    depth: str
    transparent: bool
    several: bool
    rounded: bool = False


def read_image(
    source: Path | bytes,
    what: str,
    image_size: int = 0,
    channels: int = 0,
    background: tuple[int, int, int] = (255, 255, 255),
    max_megapixels: int = 50,
) -> tuple[np.ndarray, Header]:
    """Decode an image: apply its EXIF orientation and composite it on `background`.

    Read the first of several frames or pages. Do not apply colour profiles.

    Args:
      source: a file, or its bytes.
      what: name of the image in error messages.
      image_size: resize the shorter side to this and cut out the middle square; 0: keep the size.
      channels: 1 (grey), 3 (RGB) or 0: 1 for grey images, 3 for all others.
      background: red, green and blue, 0 to 255, behind transparent pixels.
      max_megapixels: refuse larger images, as decompression bombs.

    Returns:
      The pixels (H, W, channels), and the header. Pixels are uint8; with more than 8 bits a channel
      they are float32 and keep the file's numbers.

    Raises:
      UserError: the file is no image, is damaged, has more than `max_megapixels`, or has numbers
        that are not finite.
    """
    from PIL import Image

    limit = 1_000_000 * max_megapixels
    try:
        with _opened(source) as image:
            width, height = image.size
            if width * height > limit:
                raise UserError(
                    f"{what}: {width} x {height} pixels are too many (allowed: "
                    f"{max_megapixels} megapixels; config.data.max_megapixels = "
                    f"{math.ceil(width * height / 1e6)} would read it)"
                )
            header = _header(image)
            channels = channels or (3 if header.colour else 1)
            if header.depth == "8 bits":
                bands = [_shallow(image, background).convert("RGB" if channels == 3 else "L")]
            else:
                pixels, rounded = _deep(image, source, what, background)
                header = header._replace(rounded=rounded)
                pixels = np.moveaxis(_in_channels(pixels, channels), -1, 0)
                bands = [Image.fromarray(band) for band in pixels]
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise UserError(f"{what}: not a readable image ({error})") from None
    if image_size:
        scale = image_size / min(bands[0].size)
        size = [max(image_size, round(side * scale)) for side in bands[0].size]
        if math.prod(size) > limit:
            raise UserError(f"{what}: {width} x {height} pixels are too long and thin")
        left, top = ((side - image_size) // 2 for side in size)
        box = (left, top, left + image_size, top + image_size)
        bands = [band.resize(size, Image.Resampling.BILINEAR).crop(box) for band in bands]
    width, height = bands[0].size
    arrays = [np.asarray(band).reshape(height, width, -1) for band in bands]
    return arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=-1), header


def read_header(path: Path) -> Header | None:
    """Return the header of an image file; None if the file is no image."""
    try:
        with _opened(path) as image:
            return _header(image)
    except Exception:
        return None  # `read_image` reports the reason if the file should be an image


def options(data: ConfigDict) -> dict:
    """Return the settings of `config.data` for images, as arguments of `read_image`.

    Raises:
      UserError: `background` is no colour of Pillow's ImageColor.
    """
    from PIL import ImageColor

    try:
        background = ImageColor.getrgb(data.background)[:3]
    except ValueError:
        close = closest(data.background, list(ImageColor.colormap))
        hint = f"; did you mean {close!r}?" if close else ""
        raise UserError(
            f"config.data.background = {data.background!r} is no colour{hint} (allowed: names as "
            "in CSS, such as 'white', or '#rrggbb')"
        ) from None
    return {
        "image_size": data.image_size,
        "background": background,
        "max_megapixels": data.max_megapixels,
    }


def _opened(source: Path | bytes):
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None  # `read_image` checks its own limit before it decodes
    return Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, "r", _FORMATS)


def _header(image) -> Header:
    form, mode = _form(image), image.mode
    deep = {"I": "32 bits", "F": "floats"}.get(mode, "8 bits")
    return Header(
        colour=not (mode in _GREY or mode.startswith("I;16") or form.startswith("LA;16")),
        depth="16 bits" if mode.startswith("I;16") or ";16" in form else deep,
        transparent=_is_transparent(image),
        # The photos of many phones (MPO) hold smaller copies of themselves.
        several=image.format != "MPO" and getattr(image, "is_animated", False),
    )


def _is_transparent(image) -> bool:
    return image.mode in _ALPHA or "transparency" in image.info


def _form(image) -> str:
    """Return the raw mode with which Pillow will decode an image that is not loaded yet."""
    arguments = image.tile[0][3] if image.tile else ""
    if isinstance(arguments, str):
        return arguments
    deep = image.format == "PPM" and arguments[1] > 255  # the largest value that a pixel may have
    return f"{arguments[0]};16" if deep else str(arguments[0])


def _upright(image):
    """Decode an image, and apply the orientation in its EXIF or XMP data."""
    from PIL import Image

    image.load()  # some formats have these data at their end
    if image.format == "TIFF" or not _METADATA & image.info.keys():
        return image  # Pillow turns a TIFF itself
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception:  # ignore damaged metadata
        return image
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_270,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }.get(orientation)
    return image if turn is None else image.transpose(turn)


def _shallow(image, behind: tuple[int, int, int]):
    """Return an upright, opaque image of at most 8 bits a channel."""
    from PIL import Image

    # Pillow scales grey of 2 and 4 bits to 8, but not the grey value that marks transparency.
    scale = {"L;2": 85, "L;4": 17}.get(_form(image), 1)
    image = _upright(image)
    if not _is_transparent(image):
        return image
    if image.mode == "L":
        image.info["transparency"] *= scale
    image = image.convert("LA") if image.mode == "La" else image
    return Image.alpha_composite(
        Image.new("RGBA", image.size, (*behind, 255)), image.convert("RGBA")
    )


def _deep(
    image, source: Path | bytes, what: str, behind: tuple[int, int, int]
) -> tuple[np.ndarray, bool]:
    """Return the pixels of an image of more than 8 bits a channel, and whether they are rounded.

    The pixels are float32 (H, W, 1 or 3).
    """
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        unsigned = image.mode == "I" and getattr(image, "tag_v2", {}).get(339, (1,))[0] == 1
        pixels = np.asarray(_upright(image))[..., None]
        if unsigned and pixels.dtype == np.int32:  # Pillow reads them as signed
            pixels = pixels.view(np.uint32)
    else:
        pixels = _both_bytes(image, source, what)
    key, whole = image.info.get("transparency"), pixels
    pixels = whole.astype(np.float32)
    rounded = bool((pixels.astype(np.float64) != whole).any())
    if not np.isfinite(pixels).all():
        raise UserError(f"{what} holds numbers that are not finite")
    if pixels.shape[-1] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1:] / 65535
    elif key is not None:
        alpha = (pixels != key).any(-1, keepdims=True)
    else:
        return pixels, rounded
    full = np.array(behind, np.float32) * 257  # in the range of 16 bits
    return alpha * pixels + (1 - alpha) * _in_channels(full, pixels.shape[-1]), rounded


def _both_bytes(image, source: Path | bytes, what: str) -> np.ndarray:
    """Return all 16 bits of an image with several channels.

    Pillow keeps only the high byte. Decode again with the byte order swapped to get the low byte.
    """
    form = _form(image)
    other = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}.get(form[-1])
    if form[:-1] not in ("LA;16", "RGB;16", "RGBA;16", "RGBX;16"):
        raise UserError(
            f"{what}: 16 bits a channel in the form {form} (allowed: grey, RGB, RGBA; PNG, TIFF)"
        )
    with _opened(source) as again:
        # Read grey and alpha, two bytes each, as four channels of one byte.
        swapped = "RGBA" if form[:-1] == "LA;16" else form[:-1] + other
        again.tile = [
            (*tile[:3], swapped if isinstance(tile[3], str) else (swapped, *tile[3][1:]))
            for tile in again.tile
        ]
        low = np.asarray(_upright(again)).astype(np.uint16)
    if form[:-1] == "LA;16":
        return low[..., ::2] * 256 + low[..., 1::2]
    return np.asarray(_upright(image)).astype(np.uint16) * 256 + low


def _in_channels(pixels: np.ndarray, channels: int) -> np.ndarray:
    """Convert grey to RGB or RGB to grey if the number of channels differs: (..., channels)."""
    if pixels.shape[-1] == channels:
        return pixels
    return (pixels @ _LUMA)[..., None] if channels == 1 else np.repeat(pixels, channels, axis=-1)
