"""Images of more than 8 bits a channel, read in their full depth. Pillow alone would cut deep colours to 8 bits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from padim_edge_artifact import ImageError
from padim_edge_runtime.pixel_values import DeepPixels, of_array

__all__ = ["deep_pixels"]

_SIXTEEN_BIT = frozenset(("I;16", "I;16L", "I;16B", "I;16N"))
"""Modes of Pillow that hold 16 bits a pixel."""

_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT = 258, 262, 284, 339
"""Tags of TIFF: bits of each channel, meaning of the values, order of the channels, kind of the numbers."""
_SIGNED = 2
"""Sample format of signed whole numbers."""

_SWAPPED = {"L": "B", "B": "L"}
"""Order of bytes that gives the lower byte where Pillow would give the upper one."""

_AT_ONCE = 1 << 20
"""Number of pixels that Pillow copies at a time. It makes two copies of them."""

Reopen = Callable[[], Image.Image]
"""Function that opens the same image once more, not yet decoded."""


def deep_pixels(image: Image.Image, reopen: Reopen | None, name: str) -> DeepPixels | None:
    """Return the stored pixels of an image of more than 8 bits a channel; `None` for any other image.

    Args:
        image: An opened image. It is decoded where it has more than 8 bits.
        reopen: Opens it again, since deep colours are decoded twice; `None` where there is no file.
        name: Stands for the image in errors.

    Raises:
        ImageError: Deep colours in a form that Pillow cannot give out in full.
    """
    mode, tags = image.mode, _tags(image)
    white_is_zero = tags.get(_PHOTOMETRIC) == 0
    if mode in _SIXTEEN_BIT:
        ceiling = 4095 if tags.get(_BITS) == (12,) else 65_535
        return of_array(_values(image), name, ceiling=ceiling, white_is_zero=white_is_zero)
    if mode == "I":
        return of_array(_whole_numbers(image, tags), name, white_is_zero=white_is_zero)
    if mode == "F":
        return of_array(_values(image), name, white_is_zero=white_is_zero)
    if mode == "L" and tags.get(_SAMPLE_FORMAT) == (_SIGNED,):  # Pillow takes them for numbers without a sign
        return of_array(_values(image).view(np.int8), name)
    raw = _raw_mode(image)
    if ";16" not in raw and tags.get(_BITS, (8,))[0] <= 8:
        return None
    if tags.get(_PLANAR, 1) != 1 or raw.startswith(("RGBa", "CMYK")):
        raise ImageError(
            f"{name} holds {mode} colours of 16 bits a channel in a form that cannot be read in full; save it as RGB, "
            "pixel by pixel"
        )
    if reopen is None or not raw:  # decoded already
        raise ImageError(
            f"{name} was opened by Pillow, which cuts colours of 16 bits a channel to 8; give the path or the bytes of "
            "the file instead"
        )
    return of_array(_deep_colour(image, reopen, raw), name)


def _tags(image: Image.Image) -> dict[int, Any]:
    found = getattr(image, "tag_v2", None)
    return {tag: found[tag] for tag in (_BITS, _PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT) if tag in found} if found else {}


def _whole_numbers(image: Image.Image, tags: dict[int, Any]) -> Any:
    """Return the values of mode I in the type of their container."""
    values = _values(image)
    if image.format in ("PNG", "PPM"):  # 16 bits; Pillow scales those of a PPM to the maximum that its header names
        return values.astype(np.uint16)
    if tags.get(_BITS) == (16,) and tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        return values.astype(np.int16)
    return values


def _raw_mode(image: Image.Image) -> str:
    """Return Pillow's name for the layout of the encoded pixels; empty where the image is decoded already."""
    for tile in getattr(image, "tile", ()):
        arguments = tile[3]
        found = arguments[0] if isinstance(arguments, tuple) and arguments else arguments
        return found if isinstance(found, str) else ""
    return ""


def _deep_colour(image: Image.Image, reopen: Reopen, raw: str) -> Any:
    """Decode colours of 16 bits a channel: the upper bytes first, then the lower ones."""
    if raw == "LA;16B":  # four bytes a pixel, which Pillow gives out as they are where it takes them for RGBA
        with reopen() as again:
            _set_raw_mode(again, "RGBA")
            pixels = np.asarray(again).astype(np.uint16)
        return pixels[..., 0] << 8 | pixels[..., 1]
    order = raw[-1] if raw[-1] in _SWAPPED else "L" if np.little_endian else "B"  # N is the machine's own
    values = np.empty((image.height, image.width, 3), np.uint16)  # filled in place: camera images are large
    for rows, part in _parts(image):
        values[rows] = part[..., :3]
    values <<= 8
    with reopen() as again:
        _set_raw_mode(again, f"{raw[: raw.index(';')]};16{_SWAPPED[order]}")
        for rows, part in _parts(again):
            values[rows] |= part[..., :3]
    return values


def _values(image: Image.Image) -> Any:
    """Return the pixels of an image `(H, W)` as an array."""
    values = np.empty((image.height, image.width), np.asarray(image.crop((0, 0, 1, 1))).dtype)
    for rows, part in _parts(image):
        values[rows] = part
    return values


def _parts(image: Image.Image) -> Iterator[tuple[slice, Any]]:
    """Yield the pixels of an image, some rows at a time."""
    step = max(1, _AT_ONCE // image.width)
    for first in range(0, image.height, step):
        last = min(first + step, image.height)
        yield slice(first, last), np.asarray(image.crop((0, first, image.width, last)))


def _set_raw_mode(image: Image.Image, raw: str) -> None:
    """Make Pillow take the encoded pixels for another layout."""
    tiles: list[Any] = getattr(image, "tile")  # noqa: B009  # only files have it
    for number, tile in enumerate(tiles):
        arguments = (raw, *tile[3][1:]) if isinstance(tile[3], tuple) else raw
        changed = (*tile[:3], arguments)
        tiles[number] = type(tile)(*changed) if hasattr(tile, "_fields") else changed
