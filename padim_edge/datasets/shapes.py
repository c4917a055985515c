"""Shapes of the good images, read from the heads of their files: all are brought to one, so odd ones are squeezed."""

from __future__ import annotations

import math
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import BinaryIO

from PIL import Image

from padim_edge.datasets.items import Dataset
from padim_edge_runtime import image_files

__all__ = ["odd_shapes", "shapes", "size_of"]

_OTHER_SHAPE = 1.1
"""Ratio of two aspect ratios from which images have different shapes. Cut-outs of one part differ by less."""
_ORIENTATION = 0x0112
"""EXIF tag of the orientation."""
_ON_THEIR_SIDE = range(5, 9)
"""Orientations that swap width and height."""
_SIDES = (0x0100, 0x0101)
"""TIFF tags of width and height as they are stored."""
_CHUNKS = 8
"""Bytes before the first chunk of a PNG file."""
_TEXTS = (b"iTXt", b"tEXt", b"zTXt")
"""Kinds of chunks of a PNG file that hold texts."""
_RAW, _XMP = b"Raw profile type exif\0", b"XML:com.adobe.xmp\0"
"""Keywords of texts that may tell the orientation."""


def size_of(path: Path) -> tuple[int, int] | None:
    """Read (width, height) in pixels of an image, upright, without decoding it; `None` where the head is damaged."""
    try:
        with image_files.opened(path) as (image, file):
            width, height = image.size
            exif = _exif(image, file)
            if image.format == "TIFF":  # some versions of Pillow turn the size already
                width, height = (exif[tag] for tag in _SIDES)
            turned = exif.get(_ORIENTATION, 1) in _ON_THEIR_SIDE
    except Exception:  # noqa: BLE001 - decoders raise what they like; reading the image gives the error
        return None
    return (height, width) if turned else (width, height)


def _exif(image: Image.Image, file: BinaryIO) -> Image.Exif:
    """Read the EXIF data of an image that is open."""
    if image.format != "PNG" or _tells_late(file):
        return image.getexif()
    return Image.Image.getexif(image)  # Pillow's own for PNG decodes the pixels first, in search of late chunks


def _tells_late(file: BinaryIO) -> bool:
    """Tell whether a PNG file may tell its orientation behind its pixels."""
    position, pixels = file.tell(), False
    file.seek(_CHUNKS)
    try:
        while len(head := file.read(8)) == 8:
            length, kind = struct.unpack(">I4s", head)
            end = file.tell() + length + 4
            if pixels and (kind == b"eXIf" or (kind in _TEXTS and _oriented(file.read(length)))):
                return True
            pixels |= kind == b"IDAT"
            file.seek(end)
    finally:
        file.seek(position)
    return False


def _oriented(text: bytes) -> bool:
    """Tell whether a text of a PNG file may hold an orientation."""
    if text.startswith(_XMP) and text[len(_XMP) :][:1] == b"\0":  # not compressed
        return b"tiff:Orientation" in text
    return text.startswith((_XMP, _RAW))


def shapes(dataset: Dataset) -> tuple[str, ...]:
    """Return a note on good images of another shape than most; mostly empty. Only the heads of the files are read."""
    sizes = [(item.name, size) for item in dataset.good if item.file and (size := size_of(item.file)) is not None]
    return odd_shapes(sizes)


def odd_shapes(sizes: Sequence[tuple[str, tuple[int, int]]], things: str = "good images") -> tuple[str, ...]:
    """Return a note on images of another shape than most; mostly empty.

    Args:
        sizes: Name, and (width, height) in pixels, of each image.
        things: Word for the images.
    """
    if not sizes:
        return ()
    aspects = [math.log(width / height) for _, (width, height) in sizes]
    usual = median(aspects)
    odd = [abs(aspect - usual) > math.log(_OTHER_SHAPE) for aspect in aspects]
    if not any(odd):
        return ()
    most = Counter(size for (_, size), other in zip(sizes, odd, strict=True) if not other).most_common(1)
    usually = f" ({most[0][0][0]}x{most[0][0][1]})" if most else ""
    named = [f"{name} ({width}x{height})" for (name, (width, height)), other in zip(sizes, odd, strict=True) if other]
    note = (
        f"{len(named)} of {len(sizes)} {things} have another shape than most{usually}: {', '.join(named[:3])}"
        f"{', ...' if len(named) > 3 else ''}; the model squeezes all into one shape, so cut them alike or fit a model "
        "for each shape"
    )
    return (note,)
