"""Image formats that are read, and the file endings by which they are found in folders: one list for both."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import BinaryIO

from PIL import Image

__all__ = ["FORMATS", "SUFFIXES", "open_image", "readable"]

FORMATS: Mapping[str, tuple[str, ...]] = {
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "JPEG2000": (".j2k", ".jp2", ".jpx"),
    "MPO": (".mpo",),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Name of each format in Pillow, and its file endings in lower case.

AVIF needs Pillow 11.3. An older one finds such files too, and refuses them in a sentence.
"""

SUFFIXES = frozenset(ending for endings in FORMATS.values() for ending in endings)
"""File endings, in lower case, by which images are found in folders."""

_READERS = ("Avif", "Bmp", "Gif", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tga", "Tiff", "WebP")
"""Pillow's modules for these formats."""


@cache
def readable() -> tuple[str, ...]:
    """List the formats that this Pillow can open. Only their modules are loaded, none that starts other programs."""
    for name in _READERS:
        with suppress(ImportError):
            import_module(f"PIL.{name}ImagePlugin")
    return tuple(name for name in FORMATS if name in Image.OPEN)  # MPO is opened as JPEG


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image by its content, whatever its name, in one of `FORMATS`; raises what `Image.open` raises."""
    return Image.open(file, formats=readable())
