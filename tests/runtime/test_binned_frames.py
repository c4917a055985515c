"""The way into the frame behind means of blocks: what it computes, where pixels lie, and that it has one outcome."""

from __future__ import annotations

import io

import drawn_images
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from padim_edge_artifact import Preprocessing
from padim_edge_runtime import image_files

kernels = st.sampled_from(["bicubic", "bilinear"])


def kernel(name: str, t: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution with a = -0.5, or a triangle."""
    t = np.abs(t)
    if name == "bilinear":
        return np.maximum(1 - t, 0)
    near, far = 1.5 * t**3 - 2.5 * t**2 + 1, -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2
    return np.where(t < 1, near, np.where(t < 2, far, 0))


def filtered(cells: np.ndarray, extent: float, wanted: int, name: str) -> np.ndarray:
    """Columns `(H, n)`, the last of which may be a part of one, to `(H, wanted)`, in float64 and not rounded."""
    count, scale = cells.shape[1], extent / wanted
    centres, width = (np.arange(wanted) + 0.5) * scale, max(scale, 1)
    reach = {"bicubic": 2, "bilinear": 1}[name] * width
    weights = kernel(name, (np.arange(count) + 0.5 - centres[:, None]) / width)
    first, last = np.trunc(centres - reach + 0.5), np.trunc(centres + reach + 0.5)  # Pillow rounds the reach to cells
    weights *= (np.arange(count) >= first[:, None]) & (np.arange(count) < last[:, None])
    weights /= weights.sum(axis=1, keepdims=True)
    return (cells @ weights.T).clip(0, 255)


@settings(deadline=None, max_examples=80)
@given(st.integers(1, 8), st.integers(4, 24), st.integers(8, 200), st.integers(4, 24), kernels, st.booleans())
def test_blocks_are_averaged_and_then_filtered(
    down: int, rows: int, width: int, columns: int, name: str, standing: bool
) -> None:
    """One axis is filtered here, of whichever length, and the other one is a number of whole blocks."""
    pixels = drawn_images.noise(rows + width, (max(8, down * rows), width))[..., 0]
    rows, across = len(pixels) // down, min(8, max(1, width // columns))
    cells = [pixels[:, x : x + across].reshape(rows, down, -1).mean(axis=(1, 2)) for x in range(0, width, across)]
    expected = filtered(np.floor(np.stack(cells, axis=1) + 0.5), width / across, columns, name)

    image, frame = (pixels.T, (columns, rows)) if standing else (pixels, (rows, columns))
    found = image_files.prepare(image, Preprocessing(frame, None, f"binned-{name}"))
    np.testing.assert_array_equal(found, found[..., :1].repeat(3, axis=2))
    # Rounded to whole levels; Pillow's weights have 22 bits and its extents 24.
    assert np.abs((found[..., 0].T if standing else found[..., 0]) - expected).max() <= 0.5 + 0.001


@given(st.data(), st.integers(16, 120), st.integers(16, 120), kernels)
def test_an_image_not_twice_as_large_as_the_frame_is_resized_as_ever(
    data: st.DataObject, rows: int, columns: int, name: str
) -> None:
    height, width = (data.draw(st.integers(8, 2 * side - 1)) for side in (rows, columns))
    pixels = drawn_images.noise(0, (height, width))
    one, other = (
        image_files.prepare(pixels, Preprocessing((rows, columns), None, how)) for how in (name, f"binned-{name}")
    )
    np.testing.assert_array_equal(one, other)


@settings(deadline=None)
@given(st.integers(33, 600), st.integers(33, 600), st.integers(16, 100), kernels)
def test_nothing_moves(height: int, width: int, side: int, name: str) -> None:
    """A ramp stays where it is, also where the border cuts the last blocks."""
    y, x = np.indices((height, width)) * 250 / np.array([height, width])[:, None, None]
    pixels = np.stack([x, y, x], axis=-1).round().astype(np.uint8)
    frame = image_files.prepare(pixels, Preprocessing((side, side), None, f"binned-{name}"))
    ramp = (np.arange(side) + 0.5) * 250 / side
    inner = slice(2, -2)  # at the border, any filter sees one side only
    for axis, (plane, length) in enumerate(((frame[..., 0], width), (frame[..., 1].T, height))):
        expected = ramp - 125 / length  # the ramp's pixels have their values at their left edges
        rounding, twentieth = 1.5, 250 / side / 20  # of a pixel of the frame
        assert np.abs(plane[:, inner] - expected[inner]).max() <= rounding + twentieth, axis


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 150), st.integers(20, 150), st.sampled_from([(16, 16), (40, 10), (64, 64)]))
def test_arrays_images_and_files_give_one_frame(height: int, width: int, size: tuple[int, int]) -> None:
    preprocessing = Preprocessing(size, interpolation="binned-bicubic")
    pixels = drawn_images.noise(1, (height, width))
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    expected = image_files.prepare(Image.fromarray(pixels), preprocessing)
    for source, color in (
        (pixels, "rgb"),
        (np.ascontiguousarray(pixels[..., ::-1]), "bgr"),
        (pixels[..., ::-1], "bgr"),
        (np.ascontiguousarray(pixels[..., ::-1])[..., ::-1], "rgb"),
        (np.asfortranarray(pixels), "rgb"),
        (file.getvalue(), "rgb"),
    ):
        found = image_files.decode(source, color=color)
        assert found.size == (width, height)
        np.testing.assert_array_equal(np.asarray(found.image), pixels)
        np.testing.assert_array_equal(image_files.prepare(found.pixels, preprocessing), expected)


@settings(deadline=None, max_examples=40)
@given(st.integers(20, 150), st.integers(20, 150), st.sampled_from([(), (1,)]))
def test_grey_arrays_give_the_frame_of_their_rgb(height: int, width: int, channel: tuple[int, ...]) -> None:
    preprocessing = Preprocessing((17, 12), interpolation="binned-bicubic")
    grey = drawn_images.noise(2, (height, width))[..., 0]
    expected = image_files.prepare(np.stack([grey] * 3, axis=-1), preprocessing)
    for keep in (True, False):
        decoded = image_files.decode(grey.reshape(height, width, *channel), keep_grey=keep)
        assert decoded.image.mode == ("L" if keep else "RGB")
        np.testing.assert_array_equal(image_files.prepare(decoded.pixels, preprocessing), expected)


@pytest.mark.parametrize("color", ["rgb", "bgr"])
@pytest.mark.parametrize("shape", [(40, 50), (40, 50, 1), (40, 50, 3)])
def test_a_camera_may_write_into_its_array_again(shape: tuple[int, ...], color: str) -> None:
    for step in (1, -1):
        pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)[..., ::step]
        decoded = image_files.decode(pixels, color=color, keep_grey=True)
        before = np.array(decoded.image)
        pixels[...] = 0
        np.testing.assert_array_equal(np.asarray(decoded.image), before)
        assert before.any()
