"""Images inside the report's page."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["OUTLINE", "data_uri", "outlined"]

_JPEG_QUALITY = 85
"""Quality of the embedded images, 1 to 95."""
OUTLINE = (255, 176, 0)
"""Colour of the outline of the ground truth. All kinds of colour vision tell amber from grey."""


def outlined(image: npt.NDArray[np.uint8], mask: npt.NDArray[np.bool_], side: int) -> Image.Image:
    """Enlarge a crop `(h, w, 3)` to a longer side in pixels, and draw the outline of its mask `(h, w)` around it."""
    factor = max(1, round(side / max(mask.shape)))
    pixels = image.repeat(factor, axis=0).repeat(factor, axis=1)
    inside = mask.repeat(factor, axis=0).repeat(factor, axis=1)
    near = inside
    for _ in range(2):  # a gap of one pixel of the crop would hide thin defects less, but be no outline of them
        padded = np.pad(near, 1)
        near = near | padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]
    pixels[near & ~inside] = OUTLINE
    return Image.fromarray(pixels)


def data_uri(image: Image.Image) -> str:
    """Return an image as a JPEG inside a URI."""
    buffer = io.BytesIO()
    # Without subsampling, thin outlines keep their colour. With optimize, Pillow fails on pure noise.
    image.save(buffer, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
