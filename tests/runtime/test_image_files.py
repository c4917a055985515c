"""Images in: every kind of image is converted as documented or refused in one sentence, and stands upright."""

from __future__ import annotations

from pathlib import Path

import drawn_images
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from padim_edge_artifact import ImageError, Preprocessing
from padim_edge_artifact.preprocessing import INTERPOLATIONS
from padim_edge_runtime import Detector, image_files

LOSSY = 12
"""Grey levels that JPEG and lossy WebP may move a pixel of the smooth part at their default quality; measured 7."""
INKS = 4
"""Grey levels that YCbCr and CMYK round away; measured 3."""

SIZE = (40, 64)
GREY16 = (np.arange(SIZE[0] * SIZE[1]).reshape(SIZE) * 25 + 300).astype(np.uint16)

TRANSPARENT = ("transparency was dropped",)
SIXTEEN = ("16 bits a pixel were scaled to 8",)


def smooth(size: tuple[int, int] = SIZE) -> npt.NDArray[np.uint8]:
    """`(h, w, 3)`: different in every corner and every channel, so that any turn or swap shows."""
    y, x = np.meshgrid(np.linspace(0, 1, size[0]), np.linspace(0, 1, size[1]), indexing="ij")
    return (np.stack([200 * x + 20, 180 * y + 40, 120 * x * y + 60], -1)).astype(np.uint8)


def read(path: Path) -> tuple[npt.NDArray[np.int64], tuple[str, ...]]:
    image = image_files.read(path)
    assert image.image.mode == "RGB"
    return np.asarray(image.image).astype(np.int64), image.notes


def grey(levels: npt.NDArray[np.generic]) -> npt.NDArray[np.int64]:
    return np.stack([levels.astype(np.int64)] * 3, -1)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".PNG", ".TiFF"])
def test_lossless_colour_images_are_read_to_the_bit(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(smooth()).save(tmp_path / f"a{suffix}")
    pixels, notes = read(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels, smooth())
    assert notes == ()


@pytest.mark.parametrize("suffix", [".jpg", ".JPEG", ".webp"])
def test_lossy_colour_images_are_read_nearly(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(smooth()).save(tmp_path / f"a{suffix}")
    pixels, notes = read(tmp_path / f"a{suffix}")
    assert np.abs(pixels - smooth()).max() <= LOSSY
    assert notes == ()


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_grey_levels_stay(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(smooth()).convert("L")
    image.save(tmp_path / f"a{suffix}")
    assert np.array_equal(read(tmp_path / f"a{suffix}")[0], grey(np.asarray(image)))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_one_bit_becomes_black_and_white(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(smooth()).convert("1")
    image.save(tmp_path / f"a{suffix}")
    assert np.array_equal(read(tmp_path / f"a{suffix}")[0], grey(np.asarray(image) * 255))


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp", ".gif"])
def test_palettes_become_their_colours(tmp_path: Path, suffix: str) -> None:
    image = Image.fromarray(smooth()).quantize(64)
    image.save(tmp_path / f"a{suffix}")
    pixels, notes = read(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))
    assert notes == ()


@pytest.mark.parametrize("transparency", [3, bytes(range(64))], ids=["one colour", "every colour"])
def test_a_palettes_transparency_is_dropped_and_noted(tmp_path: Path, transparency: int | bytes) -> None:
    image = Image.fromarray(smooth()).quantize(64)
    image.save(tmp_path / "a.png", transparency=transparency)
    pixels, notes = read(tmp_path / "a.png")
    assert np.array_equal(pixels, np.asarray(image.convert("RGB")))
    assert notes == TRANSPARENT


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_an_alpha_channel_is_dropped_and_noted(tmp_path: Path, mode: str, suffix: str) -> None:
    """The colours stand as they are stored; nothing is blended with a ground that nobody chose."""
    image = Image.fromarray(smooth()).convert(mode)
    image.putalpha(Image.fromarray(drawn_images.noise(0, SIZE)[..., 0]))
    image.save(tmp_path / f"a{suffix}")
    pixels, notes = read(tmp_path / f"a{suffix}")
    stored = np.asarray(image)
    assert np.array_equal(pixels, stored[..., :3] if mode == "RGBA" else grey(stored[..., 0]))
    assert notes == TRANSPARENT


def test_a_transparent_colour_is_dropped_and_noted(tmp_path: Path) -> None:
    Image.fromarray(smooth()).save(tmp_path / "a.png", transparency=tuple(int(v) for v in smooth()[0, 0]))
    pixels, notes = read(tmp_path / "a.png")
    assert np.array_equal(pixels, smooth())
    assert notes == TRANSPARENT


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_is_converted_and_noted(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(smooth()).convert("CMYK").save(tmp_path / f"a{suffix}")
    pixels, notes = read(tmp_path / f"a{suffix}")
    assert np.abs(pixels - smooth()).max() <= (LOSSY if suffix == ".jpg" else INKS)
    assert notes == ("CMYK was converted to RGB without a colour profile",)


def test_ycbcr_is_converted_or_refused(tmp_path: Path) -> None:
    """Pillow 12 writes such files and cannot read them. What it may not do is to pass luma as red."""
    Image.fromarray(smooth()).convert("YCbCr").save(tmp_path / "a.tif")
    try:
        pixels, _ = read(tmp_path / "a.tif")
    except ImageError as error:
        assert "a.tif" in str(error)  # noqa: PT017  # both outcomes are right
    else:
        assert np.abs(pixels - smooth()).max() <= INKS


def test_lab_is_converted_or_refused(tmp_path: Path) -> None:
    """Pillow learnt the conversion late. What it may not do is to pass lightness as red."""
    Image.merge("LAB", [Image.new("L", (16, 16), value) for value in (255, 128, 128)]).save(tmp_path / "white.tif")
    try:
        pixels, _ = read(tmp_path / "white.tif")
    except ImageError as error:
        assert "white.tif" in str(error)  # noqa: PT017  # both outcomes are right
    else:
        assert pixels.min() >= 255 - INKS


@pytest.mark.parametrize(
    ("mode", "order", "suffix"), [("I;16", "<", ".png"), ("I;16", "<", ".tif"), ("I;16B", ">", ".tif")]
)
def test_16_bits_are_scaled_to_8_and_noted(tmp_path: Path, mode: str, order: str, suffix: str) -> None:
    """65535 becomes 255 and all between is in proportion, rounded; it is neither cut at 255 nor stretched."""
    data = GREY16.astype(f"{order}u2").tobytes()
    Image.frombytes(mode, (SIZE[1], SIZE[0]), data).save(tmp_path / f"a{suffix}")
    pixels, notes = read(tmp_path / f"a{suffix}")
    assert np.array_equal(pixels, grey(np.round(GREY16 / 257)))
    assert notes == SIXTEEN


def test_16_bits_with_a_transparent_level(tmp_path: Path) -> None:
    Image.fromarray(GREY16).save(tmp_path / "a.png", transparency=65535)
    assert np.array_equal(read(tmp_path / "a.png")[0], grey(np.round(GREY16 / 257)))


@pytest.mark.parametrize("kind", [np.float32, np.int32])
def test_32_bits_are_refused_because_nobody_knows_their_range(tmp_path: Path, kind: type[np.generic]) -> None:
    Image.fromarray(GREY16.astype(kind)).save(tmp_path / "a.tif")
    known = r"a\.tif holds .* numbers from 300 to 64275, whose range is not known"
    with pytest.raises(ImageError, match=known) as caught:
        image_files.read(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)


TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}
"""Show the stored pixels by the EXIF standard."""


HOLDS = {
    ".png": ("RGB", "L", "I;16", "RGBA", "P"),
    ".tif": ("RGB", "L", "I;16", "RGBA", "CMYK", "P"),
    ".jpg": ("RGB", "L", "CMYK"),
    ".webp": ("RGB", "RGBA"),
}
"""Modes that each format holds."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize(("suffix", "mode"), [(suffix, mode) for suffix, modes in HOLDS.items() for mode in modes])
def test_exif_orientation_gives_the_upright_image(tmp_path: Path, suffix: str, mode: str, orientation: int) -> None:
    """In every format and mode: Pillow has a path of its own for uncompressed TIFFs of some modes."""
    image = Image.fromarray(GREY16) if mode == "I;16" else Image.fromarray(smooth())
    image = image.quantize(64) if mode == "P" else image if mode == "I;16" else image.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"turned{suffix}", exif=exif)
    image.save(tmp_path / f"plain{suffix}")
    expected = TURNS[orientation](read(tmp_path / f"plain{suffix}")[0])
    pixels, _ = read(tmp_path / f"turned{suffix}")
    assert pixels.shape == expected.shape
    assert np.array_equal(pixels, expected)


def test_an_image_in_memory_is_prepared_as_its_file_is(golden: Path, device: str, tmp_path: Path) -> None:
    """`Detector.prepare` takes both; 16 bits, transparency and EXIF orientation must not depend on which."""
    detector = Detector.load(golden, device)
    exif = Image.Exif()
    exif[0x0112] = 6
    for name, image in {
        "rgb": Image.fromarray(smooth()),
        "rgba": Image.fromarray(smooth()).convert("RGBA"),
        "16": Image.fromarray(GREY16),
        "p": Image.fromarray(smooth()).quantize(64),
    }.items():
        path = tmp_path / f"{name}.png"
        image.save(path, exif=exif, **({"transparency": bytes(64)} if name == "p" else {}))
        with Image.open(path) as opened:
            assert np.array_equal(detector.prepare(opened), detector.prepare(path)), name
    with pytest.raises(ImageError, match="whose range is not known"):
        detector.prepare(Image.fromarray(GREY16.astype(np.float32)))


def test_preparing_leaves_the_image_alone(golden: Path, device: str) -> None:
    image = Image.fromarray(smooth()).quantize(64)
    image.info["transparency"] = bytes(64)
    before = image.copy()
    Detector.load(golden, device).prepare(image)
    assert image.info == before.info
    assert np.array_equal(np.asarray(image), np.asarray(before))


sides = st.integers(8, 90)


@settings(deadline=None, max_examples=60)
@given(sides, sides, st.integers(8, 90) | st.integers(4, 20), sides, st.data(), st.sampled_from(INTERPOLATIONS))
def test_a_crop_is_the_uncropped_frame_cut(
    width: int, height: int, rows: int, columns: int, data: st.DataObject, interpolation: str
) -> None:
    image = Image.fromarray(drawn_images.noise(0, (height, width)))
    crop = (data.draw(st.integers(1, rows)), data.draw(st.integers(1, columns)))
    cut = Preprocessing((rows, columns), crop, interpolation)
    whole = image_files.prepare(image, Preprocessing((rows, columns), None, interpolation))
    found = image_files.prepare(image, cut)
    (top, left), (h, w) = cut.offset, cut.size
    assert whole.shape == (rows, columns, 3)
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(found, whole[top : top + h, left : left + w])


@settings(deadline=None, max_examples=40)
@given(st.integers(8, 400), st.integers(8, 400), st.integers(0, 255), st.sampled_from(INTERPOLATIONS))
def test_an_image_of_one_colour_keeps_it(width: int, height: int, level: int, interpolation: str) -> None:
    preprocessing = Preprocessing((33, 47), (31, 30), interpolation)
    frame = image_files.prepare(Image.new("RGB", (width, height), (level, 0, 255)), preprocessing)
    assert np.array_equal(frame, np.broadcast_to(np.array([level, 0, 255], np.uint8), (31, 30, 3)))


def test_an_image_of_the_frames_size_is_not_touched() -> None:
    pixels = drawn_images.noise(1, (40, 50))
    assert np.array_equal(image_files.prepare(Image.fromarray(pixels), Preprocessing((40, 50))), pixels)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("side", [256, 250, 100])
def test_shrinking_averages_all_pixels(interpolation: str, side: int) -> None:
    """Antialiased: a fine chequerboard becomes grey, and does not flicker with the image's size.

    In a block of an odd number of pixels, one pixel of it has no partner.
    """
    board = (np.indices((side, side)).sum(axis=0) % 2 * 255).astype(np.uint8)
    preprocessing = Preprocessing((32, 32), interpolation=interpolation)
    frame = image_files.prepare(Image.fromarray(board).convert("RGB"), preprocessing)
    block = preprocessing.bins(side, side)[0]
    lonely = 128 / block**2 if block % 2 and interpolation.startswith("binned") else 0
    assert np.abs(frame.astype(int) - 127).max() <= max(1, lonely)


@pytest.mark.parametrize("interpolation", ["bilinear", "binned-bilinear"])
def test_the_judged_box_is_where_the_frames_pixels_come_from(interpolation: str) -> None:
    """The geometry and the pixels agree: what is outside the box never reaches the frame, what is inside does."""
    preprocessing = Preprocessing((48, 60), (32, 30), interpolation)
    box = preprocessing.judged_box(240, 96)
    pixels = np.zeros((96, 240, 3), np.uint8)
    pixels[round(box.top) : round(box.bottom), round(box.left) : round(box.right)] = 255
    frame = image_files.prepare(Image.fromarray(pixels), preprocessing)
    assert frame[1:-1, 1:-1].min() == 255
    outside = image_files.prepare(Image.fromarray(255 - pixels), preprocessing)
    assert outside[1:-1, 1:-1].max() == 0


@pytest.mark.parametrize("size", [(300, 60), (60, 300), (64, 400), (97, 131), (33, 35)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_order_of_the_two_axes_is_ours_and_not_pillows(size: tuple[int, int], mode: str) -> None:
    """Pillow 13 shrinks tall images vertically first, older ones never; the frame must be the same on both."""
    image = Image.fromarray(drawn_images.noise(3, size)).convert(mode)
    wide = image.resize((40, size[0]), Image.Resampling.BICUBIC)
    wanted = np.asarray(wide.resize((40, 30), Image.Resampling.BICUBIC).convert("RGB"))
    np.testing.assert_array_equal(image_files.prepare(image, Preprocessing((30, 40))), wanted)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(
    "size", [(300, 200), (64, 64), (31, 97), (1000, 33)], ids=["smaller", "the same", "larger", "both"]
)
def test_grey_images_give_the_same_frame_whether_kept_grey_or_not(
    tmp_path: Path, size: tuple[int, int], interpolation: str
) -> None:
    """Models are fitted on the one and run on the other."""
    noise = drawn_images.noise(5, size)[..., 0]
    Image.fromarray(noise).save(tmp_path / "8.png")
    Image.fromarray(noise.astype(np.uint16) * 200).save(tmp_path / "16.png")
    Image.fromarray(noise).save(tmp_path / "8.jpg")
    turned = Image.fromarray(noise)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.jpg", exif=exif)
    for preprocessing in (
        Preprocessing((64, 64), None, interpolation),
        Preprocessing((72, 80), (64, 48), interpolation),
    ):
        for path in tmp_path.iterdir():
            kept, usual = image_files.read(path, keep_grey=True), image_files.read(path)
            assert kept.image.mode == "L"
            assert usual.image.mode == "RGB"
            assert kept.image.size == usual.image.size == (size if "turned" in path.name else size[::-1])
            assert kept.notes == usual.notes
            frame = image_files.prepare(usual.image, preprocessing)
            assert np.array_equal(image_files.prepare(kept.image, preprocessing), frame), path


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "CMYK", "1"])
def test_images_of_other_modes_become_rgb_also_where_grey_is_kept(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "a.tif"
    drawn_images.good(1).convert(mode).save(path)
    assert image_files.read(path, keep_grey=True).image.mode == "RGB"
