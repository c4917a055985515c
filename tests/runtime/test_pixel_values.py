"""Images of more than 8 bits a channel: the range of the signal decides, every value counts, nothing is cut."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any, Literal

import deep_files
import drawn_images
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from padim_edge_artifact import ImageError
from padim_edge_artifact.preprocessing import Levels
from padim_edge_runtime import image_files

TEN_BITS: Levels = (0.0, 1023.0)
SIZE = (24, 40)

EIGHT = drawn_images.noise(4, SIZE)
"""`(H, W, 3)` of 8 bits."""
DEEP = np.round(EIGHT / 255 * 1023).astype(np.uint16)
"""The same image as a camera of 10 bits gives it."""


def pixels(content: bytes | npt.NDArray[Any], levels: Levels | None = TEN_BITS) -> npt.NDArray[np.uint8]:
    return np.asarray(image_files.decode(content, levels=levels).image)


def grey(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.ascontiguousarray(image[..., 0])


def in_grey(content: bytes | npt.NDArray[Any], levels: Levels | None = TEN_BITS) -> npt.NDArray[np.uint8]:
    found = pixels(content, levels)
    assert (found == found[..., :1]).all()
    return found[..., 0]


def refusal(content: bytes | npt.NDArray[Any] | Image.Image, levels: Levels | None) -> str:
    with pytest.raises(ImageError) as caught:
        image_files.decode(content, levels=levels)
    sentence = str(caught.value)
    assert "\n" not in sentence
    return sentence


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_a_signal_of_any_depth_gives_the_image_of_8_bits(bits: int) -> None:
    """The camera's depth must not change the score, so it must not change a pixel."""
    end = (1 << bits) - 1
    deep = np.round(EIGHT / 255 * end).astype(np.uint16)
    assert np.array_equal(in_grey(deep_files.png(grey(deep)), (0, end)), grey(EIGHT))
    assert np.array_equal(pixels(deep_files.png(deep), (0, end)), EIGHT)
    assert np.array_equal(pixels(deep, (0, end)), EIGHT)


@given(st.integers(0, 60_000), st.integers(2, 65_535), st.randoms())
@settings(max_examples=50, deadline=None)
def test_scaling_is_linear_between_the_levels_and_clips_outside(lowest: int, span: int, random: Any) -> None:
    values = np.array([random.randint(0, 65_535) for _ in range(64)], np.uint16).reshape(8, 8)
    wanted = np.floor((values.astype(np.float64) - lowest) * 255 / span + 0.5).clip(0, 255)
    assert np.array_equal(in_grey(values, (lowest, lowest + span)), wanted)


class TestForms:
    """One image in every form that holds it."""

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_grey_tiff(self, order: Literal["<", ">"]) -> None:
        assert np.array_equal(in_grey(deep_files.tiff(grey(DEEP), order=order)), grey(EIGHT))

    @pytest.mark.parametrize("order", ["<", ">"])
    def test_colour_tiff(self, order: Literal["<", ">"]) -> None:
        assert np.array_equal(pixels(deep_files.tiff(DEEP, order=order)), EIGHT)

    def test_colour_of_48_bits_is_read_to_its_last_bit(self) -> None:
        """Pillow keeps the upper bytes only: 4 of the 1024 levels of 10 bits."""
        low = (np.arange(8 * 40 * 3).reshape(8, 40, 3) % 256).astype(np.uint16)
        for content in (deep_files.png(low), deep_files.tiff(low), deep_files.tiff(low, order=">")):
            assert np.array_equal(pixels(content, (0, 255)), low)

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
    def test_compressed_grey_tiff(self, compression: str) -> None:
        content = saved(Image.fromarray(grey(DEEP)), "TIFF", compression=compression)
        assert np.array_equal(in_grey(content), grey(EIGHT))

    @pytest.mark.parametrize("channels", [2, 4])
    def test_transparency_is_dropped_and_noted(self, channels: int) -> None:
        opaque = np.full((*SIZE, 1), 65_535, np.uint16)
        image = np.concatenate([DEEP[..., : channels - 1], opaque], axis=-1)
        found = image_files.decode(deep_files.png(image), levels=TEN_BITS)
        assert np.array_equal(np.asarray(found.image)[..., : channels - 1], EIGHT[..., : channels - 1])
        assert found.notes == ("transparency was dropped",)

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("kind", [np.uint32, np.int16, np.int32, np.float16, np.float32, np.float64])
    def test_signed_numbers_and_floats(self, kind: type[np.generic], order: Literal["<", ">"]) -> None:
        """Some of them are no images to Pillow."""
        image = grey(DEEP).astype(kind)
        assert np.array_equal(in_grey(deep_files.tiff(image, order=order)), grey(EIGHT))
        assert np.array_equal(in_grey(image), grey(EIGHT))

    def test_negative_numbers(self) -> None:
        image = grey(DEEP).astype(np.int16) - 500
        assert np.array_equal(in_grey(deep_files.tiff(image), (-500, 523)), grey(EIGHT))

    def test_bytes_with_a_sign(self) -> None:
        """Pillow would take -1 for 255."""
        image = (grey(EIGHT).astype(np.int16) - 128).astype(np.int8)
        assert np.array_equal(in_grey(deep_files.tiff(image), (-128, 127)), grey(EIGHT))

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_tiffs_that_pillow_does_not_know_are_turned_upright(self, orientation: int) -> None:
        content = deep_files.tiff(grey(DEEP).astype(np.float64), tags={274: (orientation,)})
        assert np.array_equal(in_grey(content), np.rot90(grey(EIGHT), {3: 2, 6: -1}[orientation]))

    def test_floats_from_0_to_1(self) -> None:
        image = (grey(EIGHT) / 255).astype(np.float32)
        assert np.array_equal(in_grey(deep_files.tiff(image), (0, 1)), grey(EIGHT))
        assert np.array_equal(pixels(EIGHT.astype(np.float64) / 255, (0, 1)), EIGHT)

    def test_portable_grey_maps_tell_their_own_range(self) -> None:
        header = f"P5 {SIZE[1]} {SIZE[0]} 1023\n".encode()
        content = header + grey(DEEP).astype(">u2").tobytes()
        assert np.array_equal(in_grey(content, (0, 65_535)), grey(EIGHT))

    def test_channels_in_the_order_of_opencv(self) -> None:
        found = image_files.decode(DEEP[..., ::-1], color="bgr", levels=TEN_BITS)
        assert np.array_equal(np.asarray(found.image), EIGHT)

    @pytest.mark.parametrize("form", ["path", "bytes", "opened"])
    def test_all_ways_to_give_a_file(self, tmp_path: Path, form: str) -> None:
        (path := tmp_path / "a.png").write_bytes(deep_files.png(DEEP))
        with Image.open(path) as opened:
            sources: dict[str, image_files.ImageLike] = {"path": path, "bytes": path.read_bytes(), "opened": opened}
            found = image_files.decode(sources[form], levels=TEN_BITS)
        assert np.array_equal(np.asarray(found.image), EIGHT)

    @pytest.mark.parametrize("orientation", [3, 6])
    def test_deep_colours_are_turned_upright(self, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        plain, whole = deep_files.png(DEEP, end=False), saved(Image.new("RGB", (1, 1)), "PNG", exif=exif)
        place = whole.index(b"eXIf") - 4
        size = int.from_bytes(whole[place : place + 4], "big") + 12
        turned = plain[:33] + whole[place : place + size] + plain[33:]
        assert np.array_equal(pixels(turned), np.rot90(EIGHT, {3: 2, 6: -1}[orientation]))


class TestWhiteIsZero:
    """A negative form of an image is the same image (A9)."""

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("levels", [None, (0.0, 65_535.0)])
    def test_16_bits(self, levels: Levels | None, order: Literal["<", ">"]) -> None:
        image = grey(EIGHT).astype(np.uint16) * 257
        content = deep_files.tiff(65_535 - image, photometric=0, order=order)
        assert np.array_equal(in_grey(content, levels), grey(EIGHT))

    @pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
    def test_compressed(self, compression: str) -> None:
        image = Image.fromarray((1023 - grey(DEEP)).astype(np.uint16))
        content = bytearray(saved(image, "TIFF", compression=compression))
        entry = content.index(struct.pack("<HHI", 262, 3, 1))
        content[entry + 8] = 0
        assert np.array_equal(in_grey(bytes(content)), grey(EIGHT))

    @pytest.mark.parametrize("end", [1023, 65_535], ids=["of the signal", "of the container"])
    def test_10_bits_counted_from_either_end(self, end: int) -> None:
        content = deep_files.tiff((end - grey(DEEP)).astype(np.uint16), photometric=0)
        assert np.array_equal(in_grey(content), grey(EIGHT))

    def test_floats(self) -> None:
        content = deep_files.tiff((1 - grey(EIGHT) / 255).astype(np.float32), photometric=0)
        assert np.array_equal(in_grey(content, (0, 1)), grey(EIGHT))

    def test_8_bits(self) -> None:
        content = deep_files.tiff(255 - grey(EIGHT), photometric=0)
        assert np.array_equal(in_grey(content, None), grey(EIGHT))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # which the runtime silences outside of tests
class TestDamagedTiffs:
    """TIFFs that Pillow does not know are refused in one sentence where they are damaged."""

    CONTENT = deep_files.tiff(65_535 - grey(DEEP), photometric=0, order=">")

    def test_cut_anywhere(self) -> None:
        whole = in_grey(self.CONTENT, (0, 1023))
        for end in range(0, len(self.CONTENT), 13):
            try:
                found = in_grey(self.CONTENT[:end], (0, 1023))
            except ImageError as error:
                assert "\n" not in str(error)  # noqa: PT017  # both outcomes are right
            else:
                assert np.array_equal(found, whole)

    def test_changed_anywhere(self) -> None:
        draw = np.random.default_rng(0)
        head = len(self.CONTENT) - 140
        for _ in range(600):
            damaged = bytearray(self.CONTENT)
            for place in draw.integers(head, len(damaged), 3):
                damaged[place] = draw.integers(0, 256)
            try:
                image_files.decode(bytes(damaged), levels=TEN_BITS)
            except ImageError as error:
                assert "\n" not in str(error)  # noqa: PT017  # both outcomes are right


class TestNotes:
    """Notes on what a user should know, and none on what is as usual."""

    def test_nothing_is_said_of_the_usual_range(self) -> None:
        assert image_files.decode(grey(DEEP), levels=TEN_BITS).notes == ()

    def test_values_beyond_the_range_are_clipped_and_said(self) -> None:
        image = grey(DEEP).copy()
        image[0, :12] = 4000
        found = image_files.decode(image, levels=TEN_BITS)
        assert found.notes == ("1.25 % of the values lie outside of 0 to 1023 and were clipped",)
        assert (np.asarray(found.image)[0, :12] == 255).all()

    def test_an_image_far_below_the_range_is_said(self) -> None:
        (note,) = image_files.decode(grey(DEEP), levels=(0, 65_535)).notes
        assert note.startswith("the values end at 1023, far below 65535, the end of the model's range; check that")

    def test_8_bits_are_taken_from_0_to_255_and_said(self) -> None:
        """Their range is never in doubt."""
        found = image_files.decode(EIGHT, levels=TEN_BITS)
        assert np.array_equal(np.asarray(found.image), EIGHT)
        assert found.notes == ("8 bits a pixel, taken from 0 to 255, where the model's range is 0 to 1023",)
        assert image_files.decode(deep_files.png(EIGHT), levels=TEN_BITS).notes == found.notes
        assert image_files.decode(EIGHT).notes == ()


class TestRefused:
    """Nobody guesses what a number means."""

    @pytest.mark.parametrize("content", [deep_files.png(grey(DEEP)), deep_files.png(DEEP), DEEP, deep_files.tiff(DEEP)])
    def test_16_bits_that_are_not_filled(self, content: bytes | npt.NDArray[Any]) -> None:
        sentence = refusal(content, None)
        assert "has 16 bits a pixel, but its values end at 1023" in sentence
        assert "export or fit with --levels MIN:MAX, such as --levels 0:1023 for 10 bits" in sentence

    @pytest.mark.parametrize("kind", [np.int16, np.int32, np.float32])
    def test_signed_numbers_and_floats_without_a_range(self, kind: type[np.generic]) -> None:
        assert "from 0 to 1023, whose range is not known" in refusal(deep_files.tiff(grey(DEEP).astype(kind)), None)

    def test_floats_from_0_to_1_for_a_range_of_whole_numbers_and_the_other_way_round(self) -> None:
        shares = (grey(EIGHT) / 255).astype(np.float32)
        assert "the range of the model is 0 to 1023" in refusal(shares, TEN_BITS)
        assert "the range of the model is 0 to 1" in refusal(grey(DEEP), (0, 1))

    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_numbers_that_are_none(self, value: float) -> None:
        image = (grey(EIGHT) / 255).astype(np.float32)
        image[3, 3] = value
        assert "infinite or no numbers" in refusal(deep_files.tiff(image), (0, 1))
        assert "infinite or no numbers" in refusal(image, (0, 1))

    def test_deep_colours_plane_by_plane(self) -> None:
        """Pillow would take pairs of bytes for pixels."""
        assert "cannot be read in full" in refusal(deep_files.tiff(DEEP, tags={284: (2,)}), TEN_BITS)

    def test_deep_colours_that_pillow_has_cut(self) -> None:
        with Image.open(io.BytesIO(deep_files.tiff(DEEP))) as opened:
            opened.load()
            assert "cuts colours of 16 bits a channel to 8; give the path" in refusal(opened, TEN_BITS)

    @pytest.mark.parametrize("array", [np.zeros(SIZE, bool), np.zeros(SIZE, np.complex64), np.zeros(SIZE, object)])
    def test_arrays_of_other_kinds(self, array: npt.NDArray[Any]) -> None:
        assert f"the array holds {array.dtype}" in refusal(array, TEN_BITS)


def test_an_extent_is_measured_without_a_range(tmp_path: Path) -> None:
    (path := tmp_path / "a.png").write_bytes(deep_files.png(DEEP))
    for source in (path, path.read_bytes(), DEEP):
        found = image_files.extent_of(source)
        assert found is not None
        assert (found.lowest, found.highest, found.narrow) == (DEEP.min(), DEEP.max(), True)
    assert image_files.extent_of(EIGHT) is None
    assert image_files.extent_of(deep_files.png(EIGHT)) is None


@pytest.mark.parametrize("end", [1023, 65_535])
def test_an_extent_does_not_depend_on_the_form(end: int) -> None:
    """A negative form tells the same range, from whichever end it counts."""
    found = image_files.extent_of(deep_files.tiff((end - grey(DEEP)).astype(np.uint16), photometric=0))
    assert found is not None
    assert found.highest <= 1023
