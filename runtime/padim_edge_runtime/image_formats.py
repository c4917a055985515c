"""Image formats that are read, and the file endings by which they are found in folders: one list for both."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["FORMATS", "SUFFIXES"]

FORMATS: Mapping[str, tuple[str, ...]] = {
    "AVIF": (".avif",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "JPEG": (".jfif", ".jpe", ".jpeg", ".jpg"),
    "JPEG2000": (".j2k", ".jp2", ".jpx"),
    "MPO": (".mpo",),
    "PNG": (".png",),
    "PPM": (".pbm", ".pgm", ".pnm", ".ppm"),
    "TGA": (".tga",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
}
"""Name of each format in Pillow, and its file endings in lower case.

AVIF needs Pillow 11.3. An older one finds such files too, and refuses them in a sentence.
"""

SUFFIXES = frozenset(ending for endings in FORMATS.values() for ending in endings)
"""File endings, in lower case, by which images are found in folders."""
