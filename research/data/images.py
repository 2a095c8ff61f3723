"""Reading one image file, carefully."""

import io
import math
import warnings
from pathlib import Path

import numpy as np

from research.errors import UserError

_GREY = ("1", "L", "I;16", "I;16L", "I;16B", "LA")  # modes of Pillow
_MAX_PIXELS = 50_000_000  # a larger image is taken for a decompression bomb


def read_image(source: Path | bytes, what: str, image_size: int, channels: int = 0) -> np.ndarray:
    """Decodes an image.

    Args:
      source: a file, or its bytes.
      what: names the image in errors.
      image_size: resize the shorter side to this and cut out the middle square; 0: as it is.
      channels: 1 (grey), 3 (RGB) or 0: 1 for grey images, 3 for all others.

    Returns:
      uint8 (H, W, channels).

    Raises:
      UserError: not an image, damaged, or of more than 50 million pixels.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of Pillow about sizes: checked below, before decoding
            with Image.open(io.BytesIO(source) if isinstance(source, bytes) else source) as image:
                if image.width * image.height > _MAX_PIXELS:
                    raise UserError(f"{what}: {image.width} x {image.height} pixels are too many")
                if not channels:
                    channels = 1 if image.mode in _GREY else 3
                if image.mode in ("I", "F"):
                    raise UserError(
                        f"{what}: pixels of 32 bits (allowed: 8 bits a channel, 16 bits of grey)"
                    )
                if image.mode.startswith("I;16"):  # Pillow would cut off all above 255
                    image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
                image = image.convert("L" if channels == 1 else "RGB")
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise UserError(f"{what}: not a readable image ({error})") from None
    if image_size:
        scale = image_size / min(image.size)
        size = [max(image_size, round(side * scale)) for side in image.size]
        if math.prod(size) > _MAX_PIXELS:
            raise UserError(f"{what}: {image.width} x {image.height} pixels are too long and thin")
        left, top = ((side - image_size) // 2 for side in size)
        image = image.resize(size, Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + image_size, top + image_size))
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def is_colour(path: Path) -> bool:
    """Whether a file is an image in colour, by its header; False where it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.mode not in _GREY
    except Exception:
        return False  # `read_image` will tell
