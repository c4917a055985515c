"""Files that are no whole image are refused in one sentence, fast; and images are found under any name."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deep_files
import drawn_images
import numpy as np
import pytest
from PIL import Image, ImageFile

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


def deep() -> Image.Image:
    return Image.fromarray(np.asarray(drawn_images.good(1, (48, 64)).convert("L")).astype(np.uint16) * 250)


def black_below() -> Image.Image:
    """Draw an image whose lower half is black, as what was never decoded is."""
    image = np.asarray(drawn_images.good(1, (48, 64))).copy()
    image[24:] = 0
    return Image.fromarray(image)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


FILES = {
    "a.png": encoded("PNG"),
    "black.png": saved(black_below(), "PNG"),
    "palette.png": saved(drawn_images.good(1, (48, 64)).quantize(32), "PNG"),
    "deep.png": saved(deep(), "PNG"),
    "deep-colour.png": deep_files.png(np.asarray(drawn_images.good(1, (48, 64))).astype(np.uint16) * 257),
    "deep.tif": saved(deep(), "TIFF"),
    "deep-lzw.tif": saved(deep(), "TIFF", compression="tiff_lzw"),
    "deflate.tif": encoded("TIFF", compression="tiff_adobe_deflate"),
    "packbits.tif": encoded("TIFF", compression="packbits"),
    "black.jpg": saved(black_below(), "JPEG"),
    "grey.jpg": saved(drawn_images.good(1, (48, 64)).convert("L"), "JPEG"),
    "lossless.webp": encoded("WEBP", lossless=True),
    "a.ppm": encoded("PPM"),
    "a.jp2": encoded("JPEG2000"),
    "a.tga": encoded("TGA", compression="tga_rle"),
    "a.gif": saved(drawn_images.good(1, (48, 64)).quantize(32), "GIF"),
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


def test_what_follows_the_last_pixel_may_be_missing(tmp_path: Path) -> None:
    """The pixels are all there, and nothing else is judged."""
    path = tmp_path / "a.png"
    for name in ("a.png", "deep.png", "deep-colour.png"):
        path.write_bytes(FILES[name])
        whole = np.asarray(image_files.read(path).image)
        path.write_bytes(FILES[name][:-12])  # the end mark of 12 bytes
        assert np.array_equal(np.asarray(image_files.read(path).image), whole)


def interlaced(passes: int) -> bytes:
    """Encode a grey PNG of 8x8 pixels in as many of the seven passes."""
    shapes = ((1, 1), (1, 1), (1, 2), (2, 2), (2, 4), (4, 4), (4, 8))  # rows and columns
    rows = b"".join(rows * (b"\0" + columns * b"\xc8") for rows, columns in shapes[:passes])
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 1)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    framed = (struct.pack(">I", len(b)) + k + b + struct.pack(">I", zlib.crc32(k + b)) for k, b in chunks)
    return b"\x89PNG\r\n\x1a\n" + b"".join(framed)


@pytest.mark.parametrize("name", FILES)
def test_a_program_that_loads_truncated_images_does_not_make_them_whole(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Training programs often set this in the process that a detector runs in. It stays as it is for them."""
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    (path := tmp_path / name).write_bytes(FILES[name][: len(FILES[name]) // 2])
    with ThreadPoolExecutor(4) as threads:
        assert all(threads.map(refusal, [path] * 8))
    assert ImageFile.LOAD_TRUNCATED_IMAGES


class TestEndsEarly:
    """A stream that ends early, in a file that is formally whole. Pillow fills the rest with black or grey."""

    @pytest.mark.parametrize("rows", [1, 20, 47])
    @pytest.mark.parametrize("kind", [np.uint8, np.uint16])
    @pytest.mark.parametrize("colour", [False, True])
    @pytest.mark.parametrize("opened", [False, True])
    def test_png(
        self, tmp_path: Path, rows: int, kind: type[np.unsignedinteger[Any]], colour: bool, opened: bool
    ) -> None:
        image = np.asarray(drawn_images.good(1, (48, 64))).astype(kind) * kind(257 if kind is np.uint16 else 1)
        content = deep_files.png(image if colour else image[..., 0], rows=rows)
        (path := tmp_path / "early.png").write_bytes(content)
        assert f"its pixels end early, after {100 * rows // 48} %" in refusal(path)
        if opened:
            with Image.open(path) as there, pytest.raises(ImageError, match="its pixels end early"):
                image_files.decode(there)

    def test_interlaced_png(self, tmp_path: Path) -> None:
        """Its last row may come with an early pass, so it says nothing."""
        (path := tmp_path / "interlaced.png").write_bytes(interlaced(7))
        assert (np.asarray(image_files.read(path).image) == 200).all()
        for passes in range(1, 7):
            path.write_bytes(interlaced(passes))
            assert "its pixels end early" in refusal(path)

    def test_a_black_png_is_whole(self, tmp_path: Path) -> None:
        for mode in ("1", "L", "P", "RGB", "RGBA", "LA", "I;16"):
            Image.new(mode, (64, 48)).save(tmp_path / "black.png")
            assert not np.asarray(image_files.read(tmp_path / "black.png", levels=(0, 255)).image).any()

    def test_a_tiff_without_its_last_strips(self, tmp_path: Path) -> None:
        content = deep_files.tiff(np.asarray(drawn_images.good(1, (48, 64))), tags={278: (24,)})
        (tmp_path / "a.tif").write_bytes(content)
        assert "it holds 50 % of its pixels" in refusal(tmp_path / "a.tif")

    def test_a_jpeg_2000_without_its_tiles(self, tmp_path: Path) -> None:
        (path := tmp_path / "a.jp2").write_bytes(encoded("JPEG2000", tile_size=(32, 32)))
        assert image_files.read(path).image.size == (64, 48)
        content = FILES["a.jp2"]
        path.write_bytes(content[: content.index(b"\xff\x90\x00\x0a") + 2])  # only this is accepted by the decoder
        assert "it holds 0 of its 1 tiles" in refusal(path)

    @pytest.mark.parametrize("image", [drawn_images.good(1, (48, 64)), drawn_images.good(1, (33, 70)), black_below()])
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"subsampling": 0},
            {"subsampling": 2},
            {"progressive": True},
            {"restart_marker_rows": 1},
            {"restart_marker_blocks": 1},
            {"restart_marker_blocks": 2, "progressive": True},
        ],
        ids=str,
    )
    def test_jpeg(self, tmp_path: Path, image: Image.Image, options: dict[str, Any]) -> None:
        """Cut behind any code and closed with an end mark, as some programs repair files."""
        content, path = saved(image, "JPEG", quality=90, **options), tmp_path / "early.jpg"
        path.write_bytes(content)
        whole = np.asarray(image_files.read(path).image).astype(int)
        start = content.index(b"\xff\xda") + 14
        for end in range(start, len(content) - 2, 7):
            path.write_bytes(content[:end].rstrip(b"\xff") + b"\xff\xd9")
            try:
                found = np.asarray(image_files.read(path).image).astype(int)
            except ImageError:
                continue
            wrong = np.abs(found - whole).max(axis=-1) > 0
            lower, right = (-(-side // 16) * 16 - 16 for side in whole.shape[:2])  # where the last blocks begin
            assert not wrong[: lower - 1].any(), end
            assert not wrong[:, : right - 1].any(), end

    @pytest.mark.parametrize("scans", range(1, 9))
    def test_a_progressive_jpeg_without_its_last_scans(self, tmp_path: Path, scans: int) -> None:
        """It is whole from a distance, and its defects are blurred."""
        content = FILES["progressive.jpg"]
        starts = [place for place in range(len(content)) if content[place : place + 2] == b"\xff\xda"]
        (path := tmp_path / "blurred.jpg").write_bytes(content[: starts[scans]] + b"\xff\xd9")
        assert "its last scans are missing" in refusal(path)

    @pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
    @pytest.mark.parametrize("size", [(8, 8), (9, 17), (33, 31), (100, 257)])
    @pytest.mark.parametrize("level", [0, 128, 255, None])
    def test_whole_jpegs_are_read(self, tmp_path: Path, mode: str, size: tuple[int, int], level: int | None) -> None:
        """Also flat ones, whose last block looks like a missing one."""
        pixels = drawn_images.noise(1, size) if level is None else np.full((*size, 3), level, np.uint8)
        for number in range(16):
            options: dict[str, Any] = {
                "progressive": bool(number & 1),
                "subsampling": number & 2,
                "restart_marker_blocks": number & 4 and 3,
                "quality": 95 if number & 8 else 30,
            }
            Image.fromarray(pixels).convert(mode).save(tmp_path / "a.jpg", **options)
            assert image_files.read(tmp_path / "a.jpg").image.size == size[::-1]


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
    assert "has more than one frame, expected a single image" in refusal(path)


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
    start = time.process_time()
    assert f"more than {image_files.LARGEST_AREA} pixels" in refusal(tmp_path / name)
    assert time.process_time() - start < BOMB_SECONDS


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


@pytest.mark.parametrize("error", [RuntimeError, NotImplementedError, struct.error, LookupError, RecursionError])
def test_whatever_a_decoder_raises_makes_one_image_unreadable(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Decoders outside Pillow's own raise what they like; the images beside it must be judged all the same."""

    def fail(*_: object, **__: object) -> None:
        raise error("no image item")

    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    monkeypatch.setattr(image_files, "open_image", fail)
    with pytest.raises(ImageError, match=r"a\.png cannot be decoded \(no image item\); expected a whole image"):
        image_files.read(tmp_path / "a.png")
