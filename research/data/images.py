"""Reading one image file, carefully."""

import io
import warnings
from pathlib import Path

import numpy as np

from research.errors import UserError

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
                    channels = 1 if image.mode in ("1", "L", "I", "I;16", "LA") else 3
                image = image.convert("L" if channels == 1 else "RGB")
    except UserError:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise UserError(f"{what}: not a readable image ({error})") from None
    if image_size:
        scale = image_size / min(image.size)
        size = [max(image_size, round(side * scale)) for side in image.size]
        left, top = ((side - image_size) // 2 for side in size)
        image = image.resize(size, Image.Resampling.BILINEAR)
        image = image.crop((left, top, left + image_size, top + image_size))
    return np.asarray(image, np.uint8).reshape(image.height, image.width, channels)


def stack(images: list[np.ndarray], what: str) -> np.ndarray:
    """Images of equal size (H, W, C) -> (N, H, W, C); a mix of grey and RGB becomes RGB.

    Raises:
      UserError: unequal sizes.
    """
    channels = max(image.shape[-1] for image in images)
    images = [np.broadcast_to(image, (*image.shape[:2], channels)) for image in images]
    shapes = {image.shape for image in images}
    if len(shapes) > 1:
        a, b = sorted(shapes)[:2]
        raise UserError(
            f"{what}: images of unequal sizes, {a[0]} x {a[1]} and {b[0]} x {b[1]}: "
            "set config.data.image_size"
        )
    return np.stack(images)
