"""Decoding costs what is stated, and every limit stands where it is said to be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import deep_files
import drawn_images
import numpy as np
import pytest
from PIL import Image

from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files, image_limits
from padim_edge_runtime.image_formats import open_image, readable

SIDE = 3000
SPARE = 30_000_000
"""Bytes that a process may take beyond the image, such as for the code of a decoder."""

CHILD = """
import json, sys
from pathlib import Path
from padim_edge_artifact import Preprocessing
from padim_edge_runtime import image_files
from padim_edge_runtime.image_formats import open_image
from padim_edge_runtime.image_limits import bytes_per_pixel
from padim_edge_runtime.memory import peak_memory
path = Path(sys.argv[1])
with path.open("rb") as file, open_image(file) as image:
    stated = bytes_per_pixel(image)
before = peak_memory()
decoded = image_files.read(path, keep_grey=True, levels=(0, 65535) if sys.argv[2] == "1" else None)
image_files.prepare(decoded.pixels, Preprocessing((224, 224), None, "bicubic"))
print(json.dumps([stated, peak_memory() - before]))
"""

KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "grey.png": ("L", "PNG", {}),
    "rgb.png": ("RGB", "PNG", {"compress_level": 1}),
    "palette.png": ("P", "PNG", {}),
    "alpha.png": ("RGBA", "PNG", {"compress_level": 1}),
    "rgb.jpg": ("RGB", "JPEG", {}),
    "progressive.jpg": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "cmyk.jpg": ("CMYK", "JPEG", {}),
    "cmyk-progressive.jpg": ("CMYK", "JPEG", {"progressive": True}),
    "rgb.tif": ("RGB", "TIFF", {}),
    "lzw.tif": ("RGB", "TIFF", {"compression": "tiff_lzw"}),
    "rgb.bmp": ("RGB", "BMP", {}),
    "rgb.ppm": ("RGB", "PPM", {}),
    "runs.tga": ("RGB", "TGA", {"compression": "tga_rle"}),
    "palette.gif": ("P", "GIF", {}),
    "lossy.webp": ("RGB", "WEBP", {"method": 0}),
    "alpha.webp": ("RGBA", "WEBP", {"method": 0}),
    "grey.jp2": ("L", "JPEG2000", {}),
    "rgb.jp2": ("RGB", "JPEG2000", {}),
    "rgb.avif": ("RGB", "AVIF", {"speed": 10}),
    "alpha.avif": ("RGBA", "AVIF", {"speed": 10}),
    "deep.png": ("deep", "PNG", {}),
    "deep.tif": ("deep", "TIFF", {}),
    "deep-grey.tif": ("deep grey", "TIFF", {}),
    "floats.tif": ("floats", "TIFF", {}),
}


def write(path: Path, mode: str, kind: str, options: dict[str, Any]) -> None:
    pixels = np.asarray(drawn_images.good(1, (SIDE, SIDE)))
    if mode in ("deep", "deep grey", "floats"):
        deep = pixels.astype(np.uint16) * 257
        values = {"deep": deep, "deep grey": deep[..., 0], "floats": deep[..., 0].astype(np.float32)}[mode]
        path.write_bytes(deep_files.png(values) if kind == "PNG" else deep_files.tiff(values))
        return
    image = Image.fromarray(pixels)
    (image.quantize(16) if mode == "P" else image.convert(mode)).save(path, kind, **options)


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_decoding_takes_no_more_memory_than_stated(tmp_path: Path, name: str) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells the peak of the memory in /proc")
    mode, kind, options = KINDS[name]
    if kind not in readable():
        pytest.skip(f"this Pillow has no {kind}")
    write(path := tmp_path / name, mode, kind, options)
    command = [sys.executable, "-c", CHILD, str(path), str(int(mode == "floats"))]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
    stated, found = json.loads(done.stdout)
    assert found < stated * SIDE * SIDE + SPARE
    assert stated * SIDE * SIDE < 2.5 * found + SPARE, "a limit that is far too strict refuses honest images"


def test_usual_images_of_the_largest_cameras_are_within_the_limit() -> None:
    """61 megapixels in 16-bit colour, 151 in grey of 16 bits, and what the largest sensors give in 8 bits."""
    for megapixels, bytes_each in ((178, 4.2), (61, 14.5), (151, 4.5), (53, 16.5)):
        assert megapixels * 1e6 * bytes_each < image_limits.MOST_MEMORY


@pytest.mark.parametrize(
    ("size", "word"),
    [
        ((8, 8000), None),
        ((8, 8001), "one side at most 1000 times the other"),
        ((132, 131_072), None),
        ((131_073, 200), "at most 131072 a side"),
        ((7, 100), "expected at least 8 a side"),
        ((14_000, 14_000), "expected at most 178956970"),
    ],
)
def test_sides_and_shapes_have_limits(size: tuple[int, int], word: str | None) -> None:
    if word is None:
        image_limits.check_size("it", *size)
        return
    with pytest.raises(ImageError, match=word):
        image_limits.check_size("it", *size)


def test_the_limits_hold_for_pixels_as_for_files() -> None:
    thin = np.zeros((16_000, 8), np.uint8)
    for each in (thin, Image.fromarray(thin)):
        with pytest.raises(ImageError, match="one side at most 1000 times"):
            image_files.decode(each)


def test_a_file_that_is_much_larger_than_its_pixels_is_refused(tmp_path: Path) -> None:
    drawn_images.good(1, (48, 64)).save(path := tmp_path / "fat.bmp")
    with path.open("r+b") as file:
        file.truncate(70_000_000)  # a hole in the file
    with pytest.raises(ImageError, match="has 70 MB for 64x48 pixels"):
        image_files.read(path)
    with path.open("r+b") as file:
        file.truncate(60_000_000)
    assert image_files.read(path).size == (64, 48)


@pytest.mark.parametrize(("ending", "size"), [("png", 1 << 41), ("jpg", 1 << 29), ("webp", 1 << 29), ("tif", 1 << 41)])
def test_a_file_that_would_fill_the_memory_is_refused_by_its_size(tmp_path: Path, ending: str, size: int) -> None:
    drawn_images.good(1, (48, 64)).save(path := tmp_path / f"huge.{ending}")
    with path.open("r+b") as file:
        file.truncate(size)
    with pytest.raises(ImageError, match="MB, more than"):
        image_files.read(path)


@pytest.mark.parametrize("maximum", [1, 100, 254, 256, 1023, 4095, 65_534])
@pytest.mark.parametrize("kind", [b"P5", b"P6"])
def test_odd_ppm_files_give_the_very_values_that_pillow_gives(tmp_path: Path, maximum: int, kind: bytes) -> None:
    """Pillow decodes them pixel by pixel in Python, which takes a second a megapixel."""
    values = np.random.default_rng(maximum).integers(0, maximum + 1, (16, 12, 3 if kind == b"P6" else 1))
    stored = values.astype(np.uint8 if maximum < 256 else ">u2").tobytes()
    (path := tmp_path / "a.ppm").write_bytes(kind + f"\n12 16\n{maximum}\n".encode() + stored)
    with path.open("rb") as file, open_image(file) as image:
        expected = np.asarray(image)
    with image_files.opened(path) as (image, _):
        assert np.array_equal(np.asarray(image), expected)
        assert image.format == "PPM"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ImageError, match="its pixels end early, after 9"):
        image_files.read(path, levels=(0, maximum))
