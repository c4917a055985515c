"""Every kind of bad image, drawn or made byte by byte, as files or other things under the name of an image."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path

import deep_files
import drawn_images
import numpy as np
from PIL import Image

__all__ = ["BAD"]

SIDE = 80
"""Side of the drawn images in pixels."""


def _saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _part() -> Image.Image:
    return drawn_images.good(7, (SIDE, SIDE))


def _exif_damaged() -> bytes:
    """A JPEG whose EXIF data ends within its first directory."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "x" * 60
    content = _saved(_part(), "JPEG", exif=exif)
    place = content.index(b"Exif\0\0") + 6
    return content[: place + 8] + b"\xff\x7f" + content[place + 10 :]


def _socket(path: Path) -> None:
    """A socket; its name may have about 100 bytes only, so it is made under a short one."""
    here = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path.name)
    finally:
        os.chdir(here)


def _written(make: Callable[[], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(make())


def _early() -> bytes:
    return deep_files.png(np.asarray(_part()), rows=20)


def _pages() -> bytes:
    return _saved(_part(), "TIFF", save_all=True, append_images=[_part()])


def _animated() -> bytes:
    return _saved(_part(), "GIF", save_all=True, append_images=[drawn_images.good(8, (SIDE, SIDE))])


def _narrow() -> bytes:
    """A 16-bit PNG that holds 10 bits: nobody knows the range of its signal."""
    return deep_files.png(np.asarray(_part())[..., 0].astype(np.uint16) * 4)


def _floats() -> bytes:
    values = np.asarray(_part())[..., 0].astype(np.float32)
    values[3, 3] = np.nan
    return deep_files.tiff(values)


BAD: dict[str, Callable[[Path], object]] = {
    "cut.png": _written(lambda: _saved(_part(), "PNG")[:-400]),
    "cut.jpg": _written(lambda: _saved(_part(), "JPEG")[:-400]),
    "early.png": _written(_early),
    "empty.png": _written(bytes),
    "text.png": _written(lambda: b"this is no image\n"),
    "zeros.jpg": _written(lambda: bytes(5000)),
    "vector.png": _written(lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>'),
    "program.png": _written(lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(/etc/passwd) run\n"),
    "icon.png": _written(lambda: _saved(_part(), "ICO")),
    "pages.tif": _written(_pages),
    "animated.gif": _written(_animated),
    "tiny.png": _written(lambda: _saved(Image.new("RGB", (1, 1)), "PNG")),
    "thin.png": _written(lambda: _saved(Image.new("L", (8, 9000)), "PNG")),
    "narrow.png": _written(_narrow),
    "floats.tif": _written(_floats),
    "folder.png": lambda path: path.mkdir(),
    "gone.png": lambda path: path.symlink_to(path.with_name("nowhere.png")),
    "loop.png": lambda path: path.symlink_to(path),
    "pipe.png": os.mkfifo,
    "socket.png": _socket,
    "device.png": lambda path: path.symlink_to("/dev/zero"),
}
"""Makers of one bad image each, by its name; a name may also be that of a folder, a link or a pipe."""

ODD: dict[str, Callable[[Path], object]] = {
    "exif.jpg": _written(_exif_damaged),
    "cmyk.jpg": _written(lambda: _saved(_part().convert("CMYK"), "JPEG")),
    "alpha.png": _written(lambda: _saved(_part().convert("RGBA"), "PNG")),
    "palette.png": _written(lambda: _saved(_part().quantize(64), "PNG")),
    "jpeg.png": _written(lambda: _saved(_part(), "JPEG")),
    "deep.png": _written(lambda: deep_files.png(np.asarray(_part()).astype(np.uint16) * 257)),
}
"""Makers of unusual images, which are read."""
