"""Images whose encoded pixels end early. Pillow fills what is missing with black or grey, and says nothing."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from typing import BinaryIO

from PIL import Image, ImageFile

from padim_edge_runtime import jpeg_streams

__all__ = ["check_tiles", "check_whole", "strict"]

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
"""Number of channels by the colour type of a PNG."""
_PASSES = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""(left, top, step across, step down) of the passes of an interlaced PNG."""
_AT_ONCE = 1 << 20
"""Number of bytes that are decompressed at a time."""


class _Strict:
    """Pillow's setting for images that are cut short, which all threads share."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._inside = 0
        self._before = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Let Pillow refuse such images, even where a program has told it to fill them up with grey."""
        with self._lock:
            if not self._inside:
                self._before = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    ImageFile.LOAD_TRUNCATED_IMAGES = self._before


strict = _Strict()


def check_tiles(image: Image.Image) -> None:
    """Refuse an opened image whose header names places for a part of its pixels only.

    Raises:
        ValueError: A part is missing.
    """
    covered = sum((right - left) * (lower - top) for _, (left, top, right, lower), *_ in getattr(image, "tile", ()))
    if image.format == "TIFF" and covered < image.width * image.height:
        raise ValueError(f"it holds {100 * covered // (image.width * image.height)} % of its pixels")


def check_whole(image: Image.Image, file: BinaryIO) -> None:
    """Refuse a decoded image that lacks a part of its pixels.

    Args:
        image: A decoded image, as Pillow opened it.
        file: The file that it was decoded from.

    Raises:
        ValueError: A part is missing.
    """
    # A row that was never decoded is zero. So only a last row of zeros needs the slow look.
    if image.format == "PNG" and (image.info.get("interlace") or _ends_black(image)):
        _check_png(file)
    elif image.format in ("JPEG", "MPO"):
        jpeg_streams.check(image, file)
    elif image.format == "JPEG2000":
        file.seek(0)
        _check_jpeg_2000(file.read())


def _check_jpeg_2000(content: bytes) -> None:
    """Look for a part of every tile. The decoder leaves tiles out that the file does not mention."""
    place = content.find(b"\xff\x4f\xff\x51") + 2  # the start of the codestream, and of the segment of sizes
    width, height, _, _, across, down, tiles_left, tiles_top = struct.unpack_from(">8I", content, place + 6)
    wanted = -(-(width - tiles_left) // across) * -(-(height - tiles_top) // down)
    found = set()
    while place + 4 <= len(content):
        marker, length = struct.unpack_from(">HH", content, place)
        if marker != 0xFF90:  # the start of a part of a tile
            place += 2 + length
            continue
        if place + 10 > len(content):
            break
        tile, size = struct.unpack_from(">HI", content, place + 4)
        found.add(tile)
        if not size:  # up to the end
            break
        place += size
    if len(found) < wanted:
        raise ValueError(f"it holds {len(found)} of its {wanted} tiles")


def _ends_black(image: Image.Image) -> bool:
    last = image.crop((0, image.height - 1, image.width, image.height))
    return not last.tobytes().strip(b"\0")


def _check_png(file: BinaryIO) -> None:
    """Compare the number of decompressed bytes with the size in the header."""
    file.seek(8)
    wanted, found, stream = 0, 0, zlib.decompressobj()
    for kind, content in _chunks(file):
        if kind == b"IHDR":
            wanted = _png_bytes(*struct.unpack(">IIBBBBB", content))
        elif kind == b"IDAT":
            rest = content
            while rest and found < wanted:
                found += len(stream.decompress(rest, _AT_ONCE))
                rest = stream.unconsumed_tail
    if found < wanted:
        raise ValueError(f"its pixels end early, after {100 * found // wanted} %")


def _chunks(file: BinaryIO) -> Iterator[tuple[bytes, bytes]]:
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        yield kind, file.read(length)
        file.read(4)  # the sum, which Pillow has checked


def _png_bytes(width: int, height: int, depth: int, colour: int, *how: int) -> int:
    """Return the number of bytes of all rows, each with the byte of its filter."""
    bits = depth * _CHANNELS[colour]
    total = 0
    for left, top, across, down in _PASSES if how[2] else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        if columns > 0 and rows > 0:
            total += rows * (1 + (columns * bits + 7) // 8)
    return total
