"""Files that are no whole image are refused in one sentence, fast; and images are found under any name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import drawn_images
import numpy as np
import pytest
from PIL import Image

from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files, image_search

POSITIONS = 150
"""Places at which files are cut."""
BOMB_SECONDS = 2.0
"""A refusal reads a header: milliseconds. Decoding 60000 x 60000 pixels would take minutes."""
BOMB_MEGABYTES = 400
"""Peak memory of the whole process, which needs about 60 without any image; decoding would need 10 000."""

# The runtime silences these outside of tests, where no filter turns warnings into errors.
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning:PIL"),
    pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning"),
]


def refusal(path: Path) -> str:
    with pytest.raises(ImageError) as caught:
        image_files.read(path)
    sentence = str(caught.value)
    assert path.name in sentence
    assert "\n" not in sentence
    return sentence


def encoded(kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    drawn_images.good(1, (48, 64)).save(buffer, kind, **options)
    return buffer.getvalue()


FILES = {
    "a.png": encoded("PNG"),
    "a.jpg": encoded("JPEG"),
    "progressive.jpg": encoded("JPEG", progressive=True),
    "a.bmp": encoded("BMP"),
    "a.tif": encoded("TIFF"),
    "lzw.tif": encoded("TIFF", compression="tiff_lzw"),
    "a.webp": encoded("WEBP"),
}


@pytest.mark.parametrize("name", FILES)
def test_an_image_cut_anywhere_is_refused_or_whole(tmp_path: Path, name: str) -> None:
    """Cut: refused. Only what follows the last pixel may be missing. A grey lower half would be judged as a defect."""
    path, content = tmp_path / name, FILES[name]
    path.write_bytes(content)
    whole = np.asarray(image_files.read(path).image)
    lost = 0
    for end in sorted({len(content) * i // POSITIONS for i in range(POSITIONS)}):
        path.write_bytes(content[:end])
        try:
            pixels = np.asarray(image_files.read(path).image)
        except ImageError as error:
            assert name in str(error)  # noqa: PT017  # both outcomes are right
            lost += 1
        else:
            assert np.array_equal(pixels, whole), f"{end} of {len(content)} bytes are taken for an image"
    assert lost >= POSITIONS * 0.9


@pytest.mark.parametrize("name", FILES)
def test_damaged_bytes_give_an_image_or_a_sentence(tmp_path: Path, name: str) -> None:
    """Not every format has checksums; but no other exception may end the judging of a folder."""
    path, content = tmp_path / name, FILES[name]
    draw = np.random.default_rng(0)
    for _ in range(POSITIONS * 2):
        damaged = bytearray(content)
        for position in draw.integers(0, min(len(content), int(draw.choice([64, 400, len(content)]))), 3):
            damaged[position] = draw.integers(0, 256)
        path.write_bytes(damaged)
        try:
            assert image_files.read(path).image.mode == "RGB"
        except ImageError as error:
            assert name in str(error)  # noqa: PT017  # both outcomes are right


def test_a_tiff_without_dimensions_is_refused(tmp_path: Path) -> None:
    """Pillow raises a TypeError for it."""
    content = FILES["a.tif"]
    entry = content.index(struct.pack("<HH", 256, 4))  # ImageWidth, LONG; where the file is little-endian
    (tmp_path / "a.tif").write_bytes(content[:entry] + struct.pack("<H", 65000) + content[entry + 2 :])
    refusal(tmp_path / "a.tif")


def test_other_files_are_refused(tmp_path: Path) -> None:
    for name, content in (("empty.png", b""), ("text.png", b"hello\n"), ("zeros.jpg", bytes(1000))):
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)
    assert "empty" in refusal(tmp_path / "empty.png")
    (tmp_path / "folder.png").mkdir()
    assert "is a folder" in refusal(tmp_path / "folder.png")
    assert "does not exist" in refusal(tmp_path / "missing.png")
    refusal(tmp_path / "text.png" / "inner.png")
    refusal(tmp_path / ("n" * 300))


def test_a_svg_and_an_onnx_are_no_images(tmp_path: Path, golden: Path) -> None:
    (tmp_path / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="64" height="64"/>')
    assert "not an image that Pillow can read" in refusal(tmp_path / "a.svg")
    assert "not an image that Pillow can read" in refusal(golden)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".tif", ".webp"])
def test_animations_and_many_pages_are_refused(tmp_path: Path, suffix: str) -> None:
    """Which of the frames should be judged?"""
    frames = [drawn_images.good(i, (48, 64)) for i in range(3)]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:])
    assert "has 3 frames, expected a single image" in refusal(path)


@pytest.mark.parametrize(("width", "height"), [(1, 1), (7, 7), (7, 900), (900, 7)])
def test_tiny_images_are_refused(tmp_path: Path, width: int, height: int) -> None:
    Image.new("RGB", (width, height)).save(tmp_path / "tiny.png")
    assert f"has {width}x{height} pixels, expected at least 8 a side" in refusal(tmp_path / "tiny.png")


def test_the_smallest_image_is_read(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "small.png")
    assert image_files.read(tmp_path / "small.png").image.size == (8, 8)


def png_header(side: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999)))


def bmp_header(side: int) -> bytes:
    info = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 24, 0, 0, 2835, 2835, 0, 0)
    return b"BM" + struct.pack("<IHHI", 54 + 999, 0, 0, 54) + info + bytes(999)


BOMBS = {"bomb.png": png_header(60_000), "bomb.bmp": bmp_header(60_000)}

PEAK = """
import sys
from pathlib import Path
from padim_edge_runtime import ImageError, image_files
from padim_edge_runtime.memory import peak_memory
try:
    image_files.read(Path(sys.argv[1]))
except ImageError as error:
    print(peak_memory() // 2**20)
    print(error)
"""


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_is_refused_at_once(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(BOMBS[name])
    start = time.perf_counter()
    assert f"more than {image_files.LARGEST_AREA} pixels" in refusal(tmp_path / name)
    assert time.perf_counter() - start < BOMB_SECONDS


@pytest.mark.parametrize("name", BOMBS)
def test_a_decompression_bomb_takes_no_memory(tmp_path: Path, name: str) -> None:
    if sys.platform != "linux":
        pytest.skip("only Linux tells the peak of the memory in /proc")
    (tmp_path / name).write_bytes(BOMBS[name])
    command = [sys.executable, "-c", PEAK, str(tmp_path / name)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    megabytes, sentence = done.stdout.splitlines()
    assert int(megabytes) < BOMB_MEGABYTES, sentence


@pytest.mark.parametrize(
    "name", ["with space.png", "ünïcödé 图片.png", "UPPER.PNG", "no-suffix", "two.dots.png", "-d.png"]
)
def test_any_name_is_read_and_found(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(FILES["a.png"])
    assert image_files.read(tmp_path / name).image.size == (64, 48)
    assert image_search.find([tmp_path / name]).files == ((tmp_path / name, Path(name)),)
