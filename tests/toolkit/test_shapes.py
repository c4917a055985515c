"""The size of an image comes from the head of its file, and is the size that reading it gives."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_edge.datasets.shapes import size_of
from padim_edge_runtime import image_files

SIZE = (40, 24)
"""(width, height) as stored."""


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def with_chunk(path: Path, made: bytes, *, behind: bool) -> None:
    """Put a chunk before or behind the pixels of a PNG file."""
    whole = path.read_bytes()
    at = whole.index(b"IEND" if behind else b"IDAT") - 4
    path.write_bytes(whole[:at] + made + whole[at:])


def exif_of(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes().removeprefix(b"Exif\0\0")


def xmp(orientation: int, *, packed: bool = False) -> bytes:
    text = f'<x:xmpmeta><rdf:Description tiff:Orientation="{orientation}"/></x:xmpmeta>'.encode()
    flag, text = (b"\1", zlib.compress(text)) if packed else (b"\0", text)
    return b"XML:com.adobe.xmp\0" + flag + b"\0\0\0" + text


def raw_profile(orientation: int) -> bytes:
    content = b"Exif\0\0" + exif_of(orientation)
    return b"Raw profile type exif\0\0" + zlib.compress(f"\nexif\n{len(content):8}\n{content.hex()}\n".encode())


CHUNKS = {
    "EXIF": lambda orientation: chunk(b"eXIf", exif_of(orientation)),
    "XMP": lambda orientation: chunk(b"iTXt", xmp(orientation)),
    "packed XMP": lambda orientation: chunk(b"iTXt", xmp(orientation, packed=True)),
    "raw profile": lambda orientation: chunk(b"zTXt", raw_profile(orientation)),
    "a remark": lambda _: chunk(b"tEXt", b"date:create\x002019-01-01"),
}


@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("kind", CHUNKS)
def test_png_files_tell_what_reading_gives(tmp_path: Path, kind: str, orientation: int, behind: bool) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((*SIZE[::-1], 3), np.uint8)).save(path)
    with_chunk(path, CHUNKS[kind](orientation), behind=behind)
    turned = kind != "a remark" and orientation > 4
    assert size_of(path) == image_files.read(path).image.size == (SIZE[::-1] if turned else SIZE)


@pytest.mark.parametrize("ending", ["jpg", "tif", "webp", "bmp", "png"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_every_kind_of_file_tells_what_reading_gives(tmp_path: Path, ending: str, orientation: int) -> None:
    path, exif = tmp_path / f"a.{ending}", Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.zeros((*SIZE[::-1], 3), np.uint8)).save(path, exif=exif)
    assert size_of(path) == image_files.read(path).image.size


@pytest.mark.parametrize("kind", ["a remark", "XMP"])
def test_pixels_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """A remark behind the pixels, as in MVTec AD, or a file that ends within them."""
    path = tmp_path / "a.png"
    Image.fromarray(np.zeros((*SIZE[::-1], 3), np.uint8)).save(path)
    made = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0<x:xmpmeta/>") if kind == "XMP" else CHUNKS[kind](1)
    with_chunk(path, made, behind=True)
    monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", lambda _: pytest.fail("decoded"))
    assert size_of(path) == SIZE
    path.write_bytes(path.read_bytes()[:60])
    assert size_of(path) == SIZE
