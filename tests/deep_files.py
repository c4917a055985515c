"""Image files of more than 8 bits a channel, written by hand: Pillow cannot write most of them."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy.typing as npt

__all__ = ["SAMPLE_FORMATS", "png", "tiff"]

SAMPLE_FORMATS = {"u": 1, "i": 2, "f": 3}
"""Sample format of TIFF by the kind of a numpy type."""
_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}
"""Colour type of PNG by the number of channels."""


def png(pixels: npt.NDArray[Any], *, rows: int | None = None, end: bool = True) -> bytes:
    """Encode `(H, W)` or `(H, W, C)` of 8 or 16 bits; C is 2 or 4 with transparency.

    Args:
        pixels: The pixels.
        rows: Number of rows that are stored, whatever the header says; `None` stores all.
        end: Whether the last chunk is there.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    stored = pixels[:rows].astype(pixels.dtype.newbyteorder(">"))
    content = b"".join(b"\0" + row.tobytes() for row in stored)
    header = struct.pack(">IIBBBBB", width, height, 8 * pixels.itemsize, _COLOURS[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(content)), *([(b"IEND", b"")] if end else [])]
    framed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


def tiff(
    pixels: npt.NDArray[Any],
    *,
    photometric: int | None = None,
    order: Literal["<", ">"] = "<",
    tags: dict[int, Sequence[int]] | None = None,
) -> bytes:
    """Encode `(H, W)` or `(H, W, 3)` in one uncompressed strip.

    Args:
        pixels: The pixels, of any type of numbers.
        photometric: 0 where zero is white; by default 1 for grey and 2 for colour.
        order: Order of bytes, `<` or `>`.
        tags: Other values for tags, as unsigned numbers of 16 bits.
    """
    height, width = pixels.shape[:2]
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    content = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    usual = 1 if channels == 1 else 2
    found: dict[int, Sequence[int]] = {
        256: (width,),
        257: (height,),
        258: (8 * pixels.itemsize,) * channels,
        259: (1,),
        262: (usual if photometric is None else photometric,),
        273: (8,),
        277: (channels,),
        278: (height,),
        279: (len(content),),
        339: (SAMPLE_FORMATS[pixels.dtype.kind],) * channels,
    } | (tags or {})
    directory = 8 + len(content)
    behind = directory + 2 + 12 * len(found) + 4
    entries, more = b"", b""
    for tag, values in sorted(found.items()):
        long = tag == 279
        value = struct.pack(f"{order}{len(values)}{'I' if long else 'H'}", *values)
        if len(value) > 4:
            value, more = struct.pack(f"{order}I", behind + len(more)), more + value
        entries += struct.pack(f"{order}HHI", tag, 4 if long else 3, len(values)) + value.ljust(4, b"\0")
    head = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, directory)
    return head + content + struct.pack(f"{order}H", len(found)) + entries + bytes(4) + more
