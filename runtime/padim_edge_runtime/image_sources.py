"""Encoded images as files that are safe to hand to a decoder: regular files only, of a bounded number of parts."""

from __future__ import annotations

import io
import os
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from padim_edge_artifact import ArtifactError, ImageError
from padim_edge_artifact.regular_files import descriptor_of
from padim_edge_runtime import jpeg_streams
from padim_edge_runtime.image_limits import LARGEST_AREA, MOST_EXTRA

__all__ = ["check_head", "of_bytes", "opened", "size_of", "webp_size"]

MOST_BYTES = 8 * LARGEST_AREA + MOST_EXTRA
"""Largest size of a file in bytes: eight for each pixel of the largest image."""
MOST_BYTES_AT_ONCE = 1 << 28
"""Largest size in bytes of a file that its decoder reads into memory as a whole."""
MOST_TAGS = 4096
"""Largest number of tags of a TIFF file."""
MOST_STRIPS = 600_000
"""Largest number of strips or tiles of a TIFF file. Pillow makes a value of Python for each."""
LARGEST_TILE = 1 << 24
"""Largest tile of a TIFF file in pixels, unless the image itself is a quarter of it."""

_READS, _BYTES_A_READ = 100_000, 64
"""Number of times that a decoder may read: so often, and once more for so many bytes."""

_AT_ONCE = (b"\xff\xd8\xff", b"GIF8", b"RIFF", b"\0\0\0\x0cjP  ", b"\xff\x4f\xff\x51")
"""First bytes of formats that are read as a whole."""
_TIFF = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
"""Order of bytes by the first bytes of a TIFF file."""
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes of a value by its type in TIFF."""
_WIDTH, _HEIGHT, _STRIPS, _TILE_WIDTH, _TILE_HEIGHT, _TILES = 256, 257, 273, 322, 323, 324


class _Count:
    """Number of reads that are left. Millions of empty parts would keep a decoder busy for minutes."""

    def __init__(self, size: int) -> None:
        self._left = _READS + size // _BYTES_A_READ

    def one(self) -> None:
        """Count one read.

        Raises:
            ValueError: There are too many.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError("it consists of too many small parts")


class _File(io.BufferedReader):
    """A file whose reads are counted."""

    def __init__(self, raw: io.FileIO, size: int) -> None:
        super().__init__(raw)
        self._count = _Count(size)

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        self._count.one()
        return super().read(size)


class _Bytes(io.BytesIO):
    """Bytes as a file whose reads are counted."""

    def __init__(self, content: bytes | bytearray | memoryview) -> None:
        super().__init__(content)
        self._count = _Count(len(content))

    def read(self, size: int | None = -1, /) -> bytes:
        """Read as any file does."""
        self._count.one()
        return super().read(size)


def of_bytes(content: bytes | bytearray | memoryview) -> BinaryIO:
    """Return encoded bytes as a file."""
    return _Bytes(content)


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading.

    Raises:
        ImageError: It is a pipe, a device, a socket or a folder. Reading a pipe would wait for a writer.
        OSError: It cannot be opened.
    """
    _check_regular(path, path.stat().st_mode)  # opening a device may have effects
    try:
        number = descriptor_of(path)
    except ArtifactError as error:  # it has become one since
        raise ImageError(str(error)) from error
    # Pillow would map an uncompressed grey TIFF given by path, and scrambles those that EXIF turns.
    with os.fdopen(number, "rb", buffering=0) as raw, _File(raw, os.fstat(number).st_size) as file:
        yield file


def _check_regular(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise ImageError(f"{path} is a folder, expected an image")
    if not stat.S_ISREG(mode):
        raise ImageError(f"{path} is a pipe, a device or a socket, expected an image file; save the image to a file")


def size_of(file: BinaryIO) -> int:
    """Return the size of a file in bytes. Its position becomes the start."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    return size


def check_head(file: BinaryIO) -> None:
    """Refuse an encoded image that is too large, or whose structure would keep a decoder busy. Its position is 0 then.

    Raises:
        ValueError: It is.
    """
    size = size_of(file)
    head = file.read(12)
    whole = head.startswith(_AT_ONCE) or head[4:8] == b"ftyp"
    most = MOST_BYTES_AT_ONCE if whole else MOST_BYTES
    if size > most:
        raise ValueError(f"it has {size // 10**6} MB, more than {most // 10**6} MB")
    if head.startswith(b"\xff\xd8"):
        jpeg_streams.check_head(file)
    elif head[:4] in _TIFF:
        _check_tiff(file, head)
    file.seek(0)


def webp_size(file: BinaryIO) -> tuple[int, int] | None:
    """Return (width, height) of a WebP file; `None` for others. Pillow makes its canvas while it opens the file."""
    file.seek(0)
    head = file.read(30)
    file.seek(0)
    if len(head) < 30 or head[:4] != b"RIFF" or head[8:12] != b"WEBP":
        return None
    if head[12:16] == b"VP8X":
        return int.from_bytes(head[24:27], "little") + 1, int.from_bytes(head[27:30], "little") + 1
    if head[12:16] == b"VP8L":
        bits = int.from_bytes(head[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", head[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _check_tiff(file: BinaryIO, head: bytes) -> None:
    """Look at the first directory of a TIFF file."""
    order, large = _TIFF[head[:4]], head[2] == 43 or head[3] == 43
    count, entry, value = ("Q", "HHQ8s", "Q") if large else ("H", "HHI4s", "I")
    file.seek(8 if large else 4)
    try:
        file.seek(min(struct.unpack(f"{order}{value}", file.read(8 if large else 4))[0], 1 << 62))
        (number,) = struct.unpack(f"{order}{count}", file.read(struct.calcsize(f"<{count}")))
    except struct.error:
        return  # cut; the decoder says so
    if number > MOST_TAGS:
        raise ValueError(f"it has {number} tags, more than {MOST_TAGS}")
    step = struct.calcsize(f"<{entry}")
    content = file.read(number * step)
    total, sides = 0, {}
    for tag, kind, times, stored in struct.iter_unpack(f"{order}{entry}", content[: len(content) // step * step]):
        total += times * _SIZES.get(kind, 1)
        if tag in (_STRIPS, _TILES) and times > MOST_STRIPS:
            raise ValueError(f"it has {times} strips or tiles, more than {MOST_STRIPS}")
        if kind in (3, 4):
            sides[tag] = struct.unpack_from(f"{order}{'H' if kind == 3 else 'I'}", stored)[0]
    if total > MOST_EXTRA:
        raise ValueError(f"its tags have {total // 10**6} MB, more than {MOST_EXTRA // 10**6}")
    tile, area = (sides.get(a, 0) * sides.get(b, 0) for a, b in ((_TILE_WIDTH, _TILE_HEIGHT), (_WIDTH, _HEIGHT)))
    if tile > max(LARGEST_TILE, 4 * area):
        raise ValueError(f"its tiles have {tile} pixels each, more than {LARGEST_TILE}")
