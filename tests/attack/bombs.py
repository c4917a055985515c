"""Small files that ask a decoder for much time or memory. Each is made here, byte by byte."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable, Sequence

from PIL import Image

__all__ = ["BOMBS"]

_MEGABYTE = bytes(1 << 20)
_GREY = ((256, 4, 1, 8), (257, 4, 1, 8), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (273, 4, 1, 8))
_TAGS = (*_GREY, (278, 4, 1, 8), (279, 4, 1, 64))
"""Tags of a grey TIFF file of 8 x 8 pixels, without its header."""


def zeros(count: int) -> bytes:
    """Compress zeros."""
    packer = zlib.compressobj(9)
    parts = [packer.compress(_MEGABYTE) for _ in range(count >> 20)]
    return b"".join([*parts, packer.compress(bytes(count & (1 << 20) - 1)), packer.flush()])


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(size: tuple[int, int], *, colour: int = 0, channels: int = 1, extra: bytes = b"", interlaced: int = 0) -> bytes:
    """A PNG of 8 bits, black."""
    width, height = size
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, interlaced))
    pixels = chunk(b"IDAT", zeros((width * channels + 1) * height))
    return b"\x89PNG\r\n\x1a\n" + header + extra + pixels + chunk(b"IEND", b"")


def tiff(tags: Sequence[tuple[int, int, int, int]], before: bytes = bytes(64)) -> bytes:
    return b"II*\0" + struct.pack("<I", 8 + len(before)) + before + directory(tags, 0)


def directory(tags: Sequence[tuple[int, int, int, int]], following: int) -> bytes:
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", following)


def changed(*tags: tuple[int, int, int, int]) -> list[tuple[int, int, int, int]]:
    """The tags of a small TIFF file with some of them changed or added."""
    own = {tag[0] for tag in tags}
    return [*(tag for tag in _TAGS if tag[0] not in own), *tags]


def pages(count: int) -> bytes:
    step = 2 + 12 * len(_TAGS) + 4
    starts = [72 + step * number for number in range(count)]
    parts = [directory(_TAGS, following) for following in (*starts[1:], 0)]
    return b"II*\0" + struct.pack("<I", 72) + bytes(64) + b"".join(parts)


def saved(mode: str, side: int, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side)).save(buffer, kind, **options)
    return buffer.getvalue()


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan comes again and again: some hundred bytes each."""
    content = saved("L", 4000, "JPEG", progressive=True)
    last = content.rindex(b"\xff\xda")
    return content[:-2] + content[last:-2] * count + content[-2:]


def exif(count: int) -> bytes:
    content = saved("L", 8, "JPEG")
    part = b"\xff\xe1" + struct.pack(">H", 65_535) + b"Exif\0\0" + bytes(65_527)
    return content[:2] + part * count + content[2:]


def segments(count: int) -> bytes:
    content = saved("L", 8, "JPEG")
    return content[:2] + b"\xff\xfe\0\2" * count + content[2:]


def frames(count: int) -> bytes:
    head = b"GIF89a" + struct.pack("<HHBBB", 8, 8, 0x80, 0, 0) + bytes(6)
    frame = b"," + struct.pack("<HHHHB", 0, 0, 8, 8, 0) + b"\x02\x02\x44\x01\0"
    return head + frame * count + b";"


def canvas() -> bytes:
    """The head of a WebP of 16383 x 16383 pixels."""
    sides = (16_382).to_bytes(3, "little") * 2
    return b"RIFF" + struct.pack("<I", 30) + b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + sides + b"VP8 " + bytes(4)


def tiles(side: int, tile: int) -> bytes:
    """A JPEG 2000 whose head says that it has very many tiles."""
    content = bytearray(saved("L", side, "JPEG2000"))
    struct.pack_into(">2I", content, content.index(b"\xff\x4f\xff\x51") + 2 + 22, tile, tile)
    return bytes(content)


def bmp(side: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 999, 0, 0, 54) + info + bytes(999)


BOMBS: dict[str, Callable[[], bytes]] = {
    "side.png": lambda: png((60_000, 8), extra=b"")[:16] + struct.pack(">II", 60_000, 60_000) + bytes(99),
    "thin.png": lambda: png((8, 22_000_000)),
    "wide.png": lambda: png((2_000_000, 8)),
    "black.png": lambda: png((13_000, 13_000), colour=2, channels=3),
    "interlaced.png": lambda: png((13_000, 13_000), interlaced=1)[:-40],
    "chunks.png": lambda: png((8, 8), extra=chunk(b"teSt", b"") * 1_000_000),
    "text.png": lambda: png((8, 8), extra=chunk(b"zTXt", b"k\0\0" + zeros(1 << 29))),
    "texts.png": lambda: png((8, 8), extra=chunk(b"zTXt", b"k\0\0" + zeros(1_000_000)) * 2_000),
    "profile.png": lambda: png((8, 8), extra=chunk(b"iCCP", b"k\0\0" + zeros(1 << 29))),
    "side.bmp": lambda: bmp(60_000),
    "pages.tif": lambda: pages(100_000),
    "strips.tif": lambda: tiff(changed((273, 4, 4_000_000, 8), (279, 4, 4_000_000, 8)), bytes(16_000_000)),
    "tags.tif": lambda: tiff([*_TAGS, *((40_000 + i, 7, 1 << 24, 8) for i in range(20_000))], bytes(1 << 24)),
    "heavy-tags.tif": lambda: tiff([*_TAGS, *((40_000 + i, 7, 1 << 24, 8) for i in range(4_000))], bytes(1 << 24)),
    "tile.tif": lambda: tiff(
        changed((259, 3, 1, 8), (322, 4, 1, 45_000), (323, 4, 1, 45_000), (324, 4, 1, 8), (325, 4, 1, 64))
    ),
    "circle.tif": lambda: pages(2)[:-4] + struct.pack("<I", 72),
    "comment.pgm": lambda: b"P5\n#" + b"x" * (1 << 26) + b"\n8 8\n255\n" + bytes(64),
    "words.pgm": lambda: b"P2\n4000 4000\n255\n" + b"7 " * 16_000_000,
    "odd.pgm": lambda: b"P5\n12000 12000\n254\n" + bytes(144_000_000),
    "scans.jpg": lambda: scans(3_000),
    "progressive.jpg": lambda: saved("RGB", 13_000, "JPEG", progressive=True),
    "exif.jpg": lambda: exif(500),
    "segments.jpg": lambda: segments(5_000_000),
    "frames.gif": lambda: frames(1_000_000),
    "one.gif": lambda: saved("L", 13_000, "GIF"),
    "runs.tga": lambda: saved("RGB", 13_000, "TGA", compression="tga_rle"),
    "canvas.webp": canvas,
    "black.webp": lambda: saved("RGB", 13_000, "WEBP", lossless=True, method=0),
    "tiles.jp2": lambda: tiles(2_000, 8),
    "black.jp2": lambda: saved("RGB", 9_000, "JPEG2000"),
}
"""Makers of the bombs by their names. Some are refused, and some cost little enough to be judged."""
