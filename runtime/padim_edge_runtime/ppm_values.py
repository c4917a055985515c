"""PGM and PPM files whose highest value is neither 255 nor 65535. Pillow decodes them pixel by pixel in Python."""

from __future__ import annotations

from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["decoded"]

_WORDS = 65_536
"""Number of values of 16 bits."""
_AT_ONCE = 1 << 20
"""Number of values that are looked up at a time, each through an index of eight bytes."""


def decoded(image: Image.Image, file: BinaryIO) -> Image.Image | None:
    """Decode an opened image of this kind, with the very values that Pillow gives; `None` for any other image.

    Args:
        image: An opened image of one of the modes L, I and RGB.
        file: The file that it was opened from.

    Raises:
        ValueError: Pixels are missing.
    """
    tiles: list[Any] = getattr(image, "tile", [])
    if len(tiles) != 1 or tiles[0][0] != "ppm" or image.mode not in ("L", "I", "RGB"):
        return None
    maximum, bands = int(tiles[0][3][-1]), len(image.getbands())
    stored: npt.DTypeLike = "u1" if maximum < 256 else ">u2"
    width = 1 if maximum < 256 else 2
    wanted = image.width * image.height * bands
    file.seek(tiles[0][2])
    content = file.read(wanted * width)
    if len(content) < wanted * width:
        raise ValueError(f"its pixels end early, after {100 * len(content) // (wanted * width)} %")
    top, kind = (65_535, "<i4") if image.mode == "I" else (255, "u1")
    table = np.minimum(top, np.rint(np.arange(_WORDS) / maximum * top)).astype(kind)
    numbers: npt.NDArray[Any] = np.frombuffer(content, stored)
    values = np.empty(wanted, kind)
    for start in range(0, wanted, _AT_ONCE):
        values[start : start + _AT_ONCE] = np.take(table, numbers[start : start + _AT_ONCE])
    found = Image.frombuffer(image.mode, image.size, values, "raw", "I;32" if image.mode == "I" else image.mode, 0, 1)
    found.format = image.format
    return found
