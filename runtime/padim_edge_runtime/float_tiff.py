"""Maps of float32 as TIFF files, written row by row, so that a large map is never in memory as a whole."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from padim_edge_artifact.files import replacing

__all__ = ["write"]

_SHORT, _LONG = 3, 4
"""Types of a field: a number of 16 bits, and one of 32 bits."""

_PIXELS = 134
"""Bytes before the pixels: 8 of the header, 10 fields of 12, and 6 around them."""


def write(path: Path, size: tuple[int, int], blocks: Iterable[npt.NDArray[np.float32]]) -> None:
    """Write a map as a TIFF file of one channel of float32, not compressed, as every reader of TIFF takes it.

    Args:
        path: The file.
        size: (height, width) of the map.
        blocks: Rows of the map, `(rows, width)` each, from the top to the bottom.

    Raises:
        PadimEdgeError: The file cannot be written.
    """
    height, width = size
    fields = (
        (256, _LONG, width),
        (257, _LONG, height),
        (258, _SHORT, 32),  # bits
        (259, _SHORT, 1),  # not compressed
        (262, _SHORT, 1),  # black is low
        (273, _LONG, _PIXELS),  # begin of the pixels
        (277, _SHORT, 1),  # channels
        (278, _LONG, height),  # rows in one piece
        (279, _LONG, 4 * height * width),  # bytes in one piece
        (339, _SHORT, 3),  # floating point
    )
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(struct.pack("<2sHIH", b"II", 42, 8, len(fields)))
        for tag, kind, value in fields:
            file.write(struct.pack("<HHI4s", tag, kind, 1, struct.pack("<I", value)))
        file.write(struct.pack("<I", 0))  # no further image
        for block in blocks:
            file.write(np.ascontiguousarray(block, "<f4").data)
