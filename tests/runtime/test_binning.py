"""Means of blocks of pixels, against sums and divisions of Python's own whole numbers."""

from __future__ import annotations

import itertools

import drawn_images
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from padim_edge_artifact.preprocessing import MOST_BINNED
from padim_edge_runtime.binning import binned

blocks = st.integers(1, MOST_BINNED)
sides = st.integers(1, 40)


def straight(pixels: np.ndarray, bins: tuple[int, int]) -> np.ndarray:
    """The mean of every block that the image's border leaves over, halves up."""
    (height, width), (down, across) = pixels.shape[:2], bins
    planes = pixels.reshape(height, width, -1)
    starts = list(itertools.product(range(0, height, down), range(0, width, across)))
    means = []
    for (top, left), channel in itertools.product(starts, range(planes.shape[2])):
        values = planes[top : top + down, left : left + across, channel].ravel().tolist()
        means.append((2 * sum(values) + len(values)) // (2 * len(values)))
    return np.array(means, np.uint8).reshape(-(-height // down), -(-width // across), *pixels.shape[2:])


@given(sides, sides, st.sampled_from([(), (1,), (3,)]), blocks, blocks, st.integers(0, 999))
def test_every_block_becomes_its_mean(
    height: int, width: int, channels: tuple[int, ...], down: int, across: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    np.testing.assert_array_equal(binned(pixels, (down, across)), straight(pixels, (down, across)))


@given(blocks, blocks, st.integers(0, 255))
def test_the_brightest_blocks_do_not_overflow(down: int, across: int, level: int) -> None:
    """Also where the border cuts blocks: the image has one pixel more than two blocks a side."""
    flat = np.full((2 * down + 1, 2 * across + 1, 3), level, np.uint8)
    assert (binned(flat, (down, across)) == level).all()


@pytest.mark.parametrize("side", [2, 4, 8])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_blocks_of_a_power_of_two_are_those_of_pillow(side: int, mode: str) -> None:
    """Pillow divides other sums by a rounded reciprocal, which loses a level wherever the quotient is whole."""
    image = Image.fromarray(drawn_images.noise(1, (8 * side, 5 * side))).convert(mode)
    np.testing.assert_array_equal(binned(np.asarray(image), (side, side)), np.asarray(image.reduce(side)))


@pytest.mark.parametrize("bins", [(3, 3), (5, 7), (6, 2), (4, 4)])
def test_other_blocks_differ_from_pillows_by_a_level_at_most(bins: tuple[int, int]) -> None:
    image = Image.fromarray(drawn_images.noise(2, (61, 83)))
    reduced = np.asarray(image.reduce((bins[1], bins[0])))  # Pillow has the width first
    difference = binned(np.asarray(image), bins).astype(int) - reduced
    assert difference.min() >= 0
    assert difference.max() <= 1


@given(blocks, blocks)
def test_the_place_of_the_pixels_in_memory_does_not_matter(down: int, across: int) -> None:
    pixels = drawn_images.noise(3, (37, 29))
    wanted = binned(pixels, (down, across))
    turned = np.ascontiguousarray(pixels[..., ::-1])[..., ::-1]
    part = np.pad(pixels, ((2, 3), (4, 5), (0, 0)))[2:-3, 4:-5]
    columns_first = np.asfortranarray(pixels)
    for other in (turned, part, columns_first):
        assert not other.flags.c_contiguous
        np.testing.assert_array_equal(binned(other, (down, across)), wanted)
