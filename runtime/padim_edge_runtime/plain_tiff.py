"""Uncompressed grey TIFFs of numbers that Pillow does not open, such as big-endian ones whose zero is white."""

from __future__ import annotations

import struct
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, TiffImagePlugin

__all__ = ["opened"]

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _OFFSETS, _ORIENTATION = 256, 257, 258, 259, 262, 273, 274
_SAMPLES, _COUNTS, _FORMAT = 277, 279, 339
_KINDS = {1: "u", 2: "i", 3: "f"}
"""Kind of a numpy type by the sample format of TIFF."""
_TYPES = frozenset(("u2", "u4", "i2", "i4", "f2", "f4", "f8"))
_MODES = {"u2": ("I;16", "<u2"), "i2": ("I", "<i4"), "i4": ("I", "<i4"), "u4": ("I", "<i4")}
"""Pillow's mode and its numbers, by the numbers of the file. Floats become F."""


def opened(file: BinaryIO) -> Image.Image | None:
    """Open the only image of such a file; `None` where it is another kind of file, or its header is damaged.

    Raises:
        ValueError: Pixels are missing, or a number is too large for Pillow.
    """
    try:
        return _opened(file)
    except (AttributeError, IndexError, KeyError, TypeError, struct.error):
        return None


def _opened(file: BinaryIO) -> Image.Image | None:
    file.seek(0)
    head = file.read(8)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(head[:4])
    if order is None:
        return None
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2(head)
    file.seek(tags.next)
    tags.load(file)
    (bits, *more), (sample_format, *_) = tags.get(_BITS, (1,)), tags.get(_FORMAT, (1,))
    kind = f"{_KINDS.get(sample_format)}{bits // 8}"
    grey = not more and tags.get(_SAMPLES, 1) == 1 and tags.get(_PHOTOMETRIC) in (0, 1)
    if tags.next or not grey or tags.get(_COMPRESSION, 1) != 1 or kind not in _TYPES or bits % 8:
        return None
    width, height = tags[_WIDTH], tags[_HEIGHT]
    content = b""
    for offset, count in zip(tags[_OFFSETS], tags[_COUNTS], strict=True):
        file.seek(offset)
        content += file.read(count)
    wanted = width * height * bits // 8
    if len(content) < wanted:
        raise ValueError(f"its pixels end early, after {100 * len(content) // wanted} %")
    values = np.frombuffer(content[:wanted], f"{order}{kind}")
    if kind == "u4" and values.max() >= 1 << 31:
        raise ValueError(f"its values reach {values.max()}, beyond {(1 << 31) - 1}")
    mode, numbers = _MODES.get(kind, ("F", "<f4"))
    image = Image.frombytes(mode, (width, height), values.astype(numbers).tobytes())
    # As Pillow's own TIFFs have it: the meaning of the numbers, and the orientation.
    image.tag_v2 = {tag: tags[tag] for tag in (_BITS, _PHOTOMETRIC, _FORMAT) if tag in tags}  # type: ignore[attr-defined]
    exif = Image.Exif()
    exif[_ORIENTATION] = tags.get(_ORIENTATION, 1)
    image.info["exif"] = exif.tobytes()
    return image
