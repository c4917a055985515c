"""Limits of images: size, shape, and the memory that decoding costs. They are checked before any pixel is decoded."""

from __future__ import annotations

from typing import Any

from PIL import Image

from padim_edge_artifact import ImageError

__all__ = [
    "LARGEST_AREA",
    "LARGEST_ASPECT",
    "LARGEST_SIDE",
    "MOST_MEMORY",
    "SMALLEST_SIDE",
    "bytes_per_pixel",
    "check_cost",
    "check_single",
    "check_size",
]

SMALLEST_SIDE = 8
"""Smallest side of an image in pixels. Below it there is nothing to inspect, and such files are accidents."""
LARGEST_AREA = 178_956_970
"""Largest image in pixels (Pillow's own limit for errors). A larger one is a decompression bomb or a mistake."""
LARGEST_SIDE = 131_072
"""Largest side of an image in pixels. Line cameras deliver less; a longer image is resized through more memory."""
LARGEST_ASPECT = 1000
"""Largest ratio of the two sides."""
MOST_MEMORY = 900_000_000
"""Largest number of bytes that decoding one image may take."""
MOST_EXTRA = 64_000_000
"""Largest number of bytes of a file that its pixels do not account for, such as profiles and previews."""
MOST_WORDS = 4_000_000
"""Largest number of values in a PPM file that is written as text. Pillow reads about a million a second."""

_BYTES = {"AVIF": 13.0, "WEBP": 17.0}
"""Bytes that decoding takes for each pixel, by the formats whose decoders hold several copies; measured."""
_JPEG_2000 = 6.6
"""Bytes for each channel of a pixel in JPEG 2000, whose decoder takes numbers of 32 bits."""
_MODES = {
    "1": 1.2,
    "L": 1.2,
    "RGB": 4.2,
    "P": 5.2,
    "LA": 8.5,
    "RGBA": 8.5,
    "CMYK": 8.5,
    "I;16": 4.5,
    "I": 9.0,
    "F": 9.0,
}
"""Bytes that decoding takes for each pixel, by Pillow's modes, the frame of the model included; measured."""
_OTHER_MODE = 9.0
_DEEP_COLOUR = 15.0
"""Bytes for each pixel of 16 bits a channel, which is decoded twice."""
_SCANS = 10.5
"""Bytes for each pixel that a JPEG of several scans takes beyond others. It is decoded twice."""
_STRIPS = 3.5
"""Bytes for each pixel that a compressed TIFF takes beyond others."""
_LARGEST_PIXEL = 16
"""Largest number of bytes that a pixel takes in a file."""


def check_size(name: str, width: int, height: int, smallest: int = SMALLEST_SIDE) -> None:
    """Refuse an image that is too small, too large or too long.

    Args:
        name: Stands for the image in the sentence.
        width: Width in pixels.
        height: Height in pixels.
        smallest: Smallest side in pixels.

    Raises:
        ImageError: It is; the sentence begins with `name`.
    """
    if width * height > LARGEST_AREA:
        raise ImageError(f"{name} has {width}x{height} pixels, expected at most {LARGEST_AREA}; cut or shrink it")
    if min(width, height) < smallest:
        raise ImageError(f"{name} has {width}x{height} pixels, expected at least {smallest} a side")
    if max(width, height) > min(LARGEST_SIDE, LARGEST_ASPECT * min(width, height)):
        raise ImageError(
            f"{name} has {width}x{height} pixels, expected at most {LARGEST_SIDE} a side, and one side at most "
            f"{LARGEST_ASPECT} times the other; cut it into shorter images"
        )


def check_single(name: str, image: Image.Image) -> None:
    """Refuse an opened file of several frames or pages. They are not counted, because there may be millions.

    Raises:
        ImageError: There is a second one.
    """
    # MPO: a photo with previews behind it, from phones.
    if getattr(image, "is_animated", False) and image.format != "MPO":
        raise ImageError(f"{name} has more than one frame, expected a single image; extract the frame to judge")


def check_cost(name: str, image: Image.Image, size: int) -> None:
    """Refuse an opened image whose decoding takes too much memory or time.

    Args:
        name: Stands for the image in errors.
        image: An opened image, not yet decoded.
        size: Bytes of the file.

    Raises:
        ImageError: It does.
    """
    area = image.width * image.height
    if size > MOST_EXTRA + _LARGEST_PIXEL * area:
        raise ImageError(
            f"{name} has {size // 10**6} MB for {image.width}x{image.height} pixels; expected at most "
            f"{MOST_EXTRA // 10**6} MB beside the pixels, so save it again without the rest"
        )
    needed = area * bytes_per_pixel(image)
    if needed > MOST_MEMORY:
        raise ImageError(
            f"{name} has {image.width}x{image.height} pixels, which take about {round(needed / 1e6)} MB to decode from "
            f"this kind of {image.format}, expected at most {MOST_MEMORY // 10**6} MB; cut or shrink it, or save it as "
            "PNG of 8 bits"
        )
    if _decoder(image) == "ppm_plain" and area * len(image.getbands()) > MOST_WORDS:
        raise ImageError(
            f"{name} has {image.width}x{image.height} pixels written as text, expected at most {MOST_WORDS} values; "
            "save it as PNG"
        )


def bytes_per_pixel(image: Image.Image) -> float:
    """Return the bytes of memory for each pixel that decoding an opened image takes, at the most."""
    if (known := _BYTES.get(image.format or "")) is not None:
        return known
    if image.format == "JPEG2000":
        return _JPEG_2000 * len(image.getbands())
    cost = _MODES.get(image.mode, _OTHER_MODE)
    if image.mode in ("RGB", "RGBA", "LA", "RGBX", "CMYK") and ";16" in _raw_mode(image):
        cost = _DEEP_COLOUR
    if image.info.get("progressive"):
        cost += _SCANS
    if image.format == "TIFF" and _decoder(image) == "libtiff":
        cost += _STRIPS
    return cost


def _decoder(image: Image.Image) -> str:
    """Return Pillow's name for the decoder; empty where the image is decoded already."""
    tiles: list[Any] = getattr(image, "tile", [])
    return str(tiles[0][0]) if tiles else ""


def _raw_mode(image: Image.Image) -> str:
    tiles: list[Any] = getattr(image, "tile", [])
    found = tiles[0][3] if tiles else ""
    return str(found[0] if isinstance(found, tuple) and found else found)
