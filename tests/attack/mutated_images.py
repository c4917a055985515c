"""Seeded mutations of images of every promised format: bits, cuts, splices, swapped parts, and numbers in heads."""

from __future__ import annotations

import io
import random
import struct
from collections.abc import Callable, Iterator
from functools import cache

import deep_files
import drawn_images
import numpy as np
from PIL import Image

from padim_edge_runtime.image_formats import SUFFIXES, readable

__all__ = ["mutants", "originals"]

SIZE = (24, 33)
"""Height and width of the originals in pixels: small, so that most bytes of a file steer the decoder."""
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


@cache
def originals() -> dict[str, bytes]:
    """Return small encoded images by their names, several of each promised format that this Pillow can write."""
    image = drawn_images.good(1, SIZE)
    deep = np.asarray(image).astype(np.uint16) * 257
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "maker"
    found = {
        "rgb.png": _saved(image, "PNG"),
        "exif.png": _saved(image, "PNG", exif=exif),
        "palette.png": _saved(image.quantize(16), "PNG", transparency=3),
        "deep.png": deep_files.png(deep),
        "exif.jpg": _saved(image, "JPEG", exif=exif),
        "progressive.jpg": _saved(image, "JPEG", progressive=True),
        "restarts.jpg": _saved(image, "JPEG", restart_marker_blocks=1),
        "cmyk.jpg": _saved(image.convert("CMYK"), "JPEG"),
        "photo.mpo": _saved(image, "MPO", save_all=True, append_images=[image]),
        "rgb.bmp": _saved(image, "BMP"),
        "palette.bmp": _saved(image.quantize(16), "BMP"),
        "grey.gif": _saved(image.convert("L"), "GIF"),
        "rgb.ppm": _saved(image, "PPM"),
        "text.ppm": b"P3\n8 8\n255\n" + b"12 200 7 " * 64,
        "ten-bits.pgm": b"P5\n8 8\n1023\n" + bytes(range(128)),
        "runs.tga": _saved(image, "TGA", compression="tga_rle"),
        "rgb.tga": _saved(image, "TGA"),
        "rgb.tif": _saved(image, "TIFF"),
        "lzw.tif": _saved(image, "TIFF", compression="tiff_lzw"),
        "deflate.tif": _saved(image, "TIFF", compression="tiff_adobe_deflate"),
        "jpeg.tif": _saved(image, "TIFF", compression="jpeg"),
        "deep.tif": deep_files.tiff(deep),
        "white.tif": deep_files.tiff(deep[..., 0], photometric=0, order=">"),
        "floats.tif": deep_files.tiff(deep[..., 0].astype(np.float32)),
        "lossy.webp": _saved(image, "WEBP"),
        "lossless.webp": _saved(image, "WEBP", lossless=True, exif=exif),
    }
    if "JPEG2000" in readable():
        found |= {"a.jp2": _saved(image, "JPEG2000"), "tiles.jp2": _saved(image, "JPEG2000", tile_size=(16, 16))}
    if "AVIF" in readable():
        found["a.avif"] = _saved(image, "AVIF")
    assert {f".{name.rpartition('.')[2]}" for name in found} <= SUFFIXES
    return found


def mutants(seed: int, count: int) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of damaged images; the name says the original and the kind of damage.

    Args:
        seed: Brings the same mutants back.
        count: Number of mutants.
    """
    names = list(originals())
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        name = draw.choice(names)
        content = originals()[name]
        done = []
        for _ in range(draw.choice((1, 1, 1, 2, 4))):
            kind = draw.choice(list(_KINDS))
            done.append(kind)
            content = _KINDS[kind](content, draw)
        yield f"{number}-{'-'.join(done)}-{name}", content


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _place(content: bytes, draw: random.Random) -> int:
    """Choose a position, mostly in the head, where the structure is."""
    return draw.randrange(max(1, draw.choice((16, 64, 256, len(content), len(content)))))


def _bits(content: bytes, draw: random.Random) -> bytes:
    changed = bytearray(content or b"\0")
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[_place(content, draw) % len(changed)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _numbers(content: bytes, draw: random.Random) -> bytes:
    """Write an interesting number somewhere, in either order of bytes."""
    value, place = draw.choice(_NUMBERS), _place(content, draw)
    kind = draw.choice([each for each in ("B", "<H", ">H", "<I", ">I") if value < 1 << 8 * struct.calcsize(each)])
    stored = struct.pack(kind, value)
    return content[:place] + stored + content[place + len(stored) :]


def _cut(content: bytes, draw: random.Random) -> bytes:
    return content[: _place(content, draw)]


def _removed(content: bytes, draw: random.Random) -> bytes:
    place = _place(content, draw)
    return content[:place] + content[place + draw.choice((1, 2, 4, 16, 100)) :]


def _repeated(content: bytes, draw: random.Random) -> bytes:
    first, length = _place(content, draw), draw.choice((1, 4, 12, 64, 300))
    return content[: first + length] + content[first : first + length] * draw.choice((1, 2, 50)) + content[first:]


def _swapped(content: bytes, draw: random.Random) -> bytes:
    one, two = sorted((_place(content, draw), draw.randrange(max(1, len(content)))))
    length = draw.choice((2, 4, 12, 64))
    return (
        content[:one]
        + content[two : two + length]
        + content[one + length : max(two, one + length)]
        + content[one : one + length]
        + content[two + length :]
    )


def _spliced(content: bytes, draw: random.Random) -> bytes:
    """Go on with another image, of the same or of another format."""
    other = draw.choice(list(originals().values()))
    return content[: _place(content, draw)] + other[draw.randrange(len(other)) :]


def _noise(content: bytes, draw: random.Random) -> bytes:
    place = _place(content, draw)
    stored = draw.randbytes(draw.choice((1, 4, 32)))
    return content[:place] + stored + content[place + len(stored) :]


_KINDS: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "bits": _bits,
    "numbers": _numbers,
    "cut": _cut,
    "removed": _removed,
    "repeated": _repeated,
    "swapped": _swapped,
    "spliced": _spliced,
    "noise": _noise,
}
