"""Laws of `measure`: what it must not see, what it must see, and how its figures scale."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from padim_edge.planting import measure, measuring
from padim_edge.planting.measuring import FLOOR, compared, surroundings
from padim_edge_artifact.errors import PadimEdgeError

SIDE = 96
Image = npt.NDArray[np.uint8]
Mask = npt.NDArray[np.bool_]


def textured(seed: int, deviation: float, level: float = 120.0) -> npt.NDArray[np.float64]:
    """Grey texture with a grain of about a pixel."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((SIDE, SIDE)), 0.6)
    return level + deviation * noise / noise.std()


def rendered(plane: npt.NDArray[np.float64]) -> Image:
    return np.repeat(np.rint(np.clip(plane, 0, 255)).astype(np.uint8)[..., None], 3, axis=2)


def disc(radius: float, row: int = 48, column: int = 48) -> Mask:
    rows, columns = np.indices((SIDE, SIDE))
    return np.asarray(np.hypot(rows - row, columns - column) <= radius)


def line(length: int) -> Mask:
    mask = np.zeros((SIDE, SIDE), np.bool_)
    mask[47:49, 48 - length // 2 : 48 + length // 2] = True
    return mask


@given(seed=st.integers(0, 10**6), deviation=st.floats(0.0, 25.0), radius=st.floats(2.0, 18.0))
@settings(max_examples=25, deadline=None)
def test_an_unharmed_texture_stands_out_by_nearly_nothing(seed: int, deviation: float, radius: float) -> None:
    """A few pixels of a texture differ by chance: the largest of 150 draws is 1.3 for 13 pixels and 0.5 for 1000."""
    assert measure(rendered(textured(seed, deviation)), disc(radius)).contrast < 0.7 + 2.5 / radius


@given(seed=st.integers(0, 10**6), radius=st.floats(3.0, 18.0), shift=st.integers(-60, 60))
@settings(max_examples=25, deadline=None)
def test_brightness_of_the_whole_image_does_not_matter(seed: int, radius: float, shift: int) -> None:
    plane = np.rint(textured(seed, 6.0) + 25.0 * disc(radius))
    before, after = measure(rendered(plane), disc(radius)), measure(rendered(plane + shift), disc(radius))
    assert after.contrast == pytest.approx(before.contrast, abs=1e-3)
    assert after.levels == pytest.approx(before.levels, abs=1e-3)


@given(seed=st.integers(0, 10**6), radius=st.floats(3.0, 18.0))
@settings(max_examples=25, deadline=None)
def test_twice_the_contrast_of_the_whole_image_is_twice_the_levels_and_the_same_relative_contrast(
    seed: int, radius: float
) -> None:
    plane = np.rint(textured(seed, 8.0) + 20.0 * disc(radius)) - 120.0
    once, twice = measure(rendered(120 + plane), disc(radius)), measure(rendered(120 + 2 * plane), disc(radius))
    assert twice.levels == pytest.approx(2 * once.levels, rel=1e-3, abs=1e-2)
    assert twice.contrast == pytest.approx(once.contrast, rel=1e-3, abs=1e-2)


@pytest.mark.parametrize("mask", [disc(4.0), disc(14.0), line(40)], ids=["small", "large", "thin"])
@pytest.mark.parametrize("sign", [-1, 1])
def test_levels_are_the_shift_of_the_mean_and_rise_with_it(mask: Mask, sign: int) -> None:
    plane = textured(3, 5.0)
    found = [measure(rendered(plane + sign * shift * mask), mask) for shift in (0, 10, 20, 40, 80)]
    levels = [each.levels for each in found]
    assert levels == sorted(levels)
    assert levels[-1] == pytest.approx(80.0, rel=0.1)
    assert found[-1].contrast == pytest.approx(80.0 / 5.0, rel=0.35)


def test_a_texture_that_changes_at_the_same_mean_is_seen() -> None:
    plane, mask = textured(5, 5.0), disc(12.0)
    rougher = np.where(mask, 120.0 + 4.0 * (plane - 120.0), plane)
    smoother = np.where(mask, 120.0, textured(5, 20.0))
    assert measure(rendered(rougher), mask).contrast > 1.5
    assert measure(rendered(smoother), mask).levels > 5.0


def test_a_mask_larger_than_its_defect_still_tells_most_of_the_contrast() -> None:
    """Annotators draw generously: a defect on a quarter of the mask keeps over a third of its levels."""
    plane = textured(7, 4.0) + 60.0 * disc(6.0)
    assert measure(rendered(plane), disc(12.0)).levels > 60.0 / 3


def test_a_defect_on_the_edge_of_a_part_is_not_drowned_by_the_edge() -> None:
    part = np.indices((SIDE, SIDE))[1] < 48
    plane = textured(11, 3.0, 40.0) + 160.0 * part
    good = measure(rendered(plane), disc(8.0))
    bad = measure(rendered(plane - 100.0 * (disc(8.0) & part)), disc(8.0))
    assert good.levels < 160.0 / 10
    assert bad.levels > good.levels + 25.0


def test_a_pattern_that_is_cut_out_and_turned_is_seen_at_its_rim() -> None:
    stripes = 120.0 + 40.0 * np.sin(np.indices((SIDE, SIDE))[1] / 4.0)
    turned = np.where(disc(14.0), stripes.T, stripes)
    assert measure(rendered(turned), disc(14.0)).levels > measure(rendered(stripes), disc(14.0)).levels + 5.0


def test_the_surroundings_do_not_look_at_the_region() -> None:
    mask, plane = disc(9.0), textured(13, 7.0)
    other = np.where(mask, 255.0, plane)
    a, b = surroundings(rendered(plane), mask), surroundings(rendered(other), mask)
    assert np.array_equal(a.predicted, b.predicted)
    assert np.array_equal(a.deviation, b.deviation)


def test_grey_is_measured_alike_with_one_channel_and_with_three() -> None:
    image, mask = rendered(textured(17, 6.0) + 30.0 * disc(5.0)), disc(5.0)
    one, three = measure(image[..., 0], mask), measure(image, mask)
    assert (one.extent, one.contrast, one.levels) == (three.extent, three.contrast, three.levels)


def test_a_defect_in_one_channel_counts_whole() -> None:
    plane, mask = textured(19, 5.0), disc(8.0)
    image = rendered(plane)
    image[..., 2] = rendered(plane + 50.0 * mask)[..., 2]
    assert measure(image, mask).levels == pytest.approx(50.0, rel=0.15)


def test_a_region_without_surroundings_measures_nothing() -> None:
    image = rendered(textured(23, 20.0))
    found = measure(image, np.ones((SIDE, SIDE), np.bool_))
    assert (found.contrast, found.levels) == (0.0, 0.0)


def test_a_flat_image_has_the_floor_for_its_texture() -> None:
    image = np.full((SIDE, SIDE, 3), 90, np.uint8)
    around = surroundings(image, disc(6.0))
    assert np.all(around.deviation == FLOOR)
    assert compared(around, np.full((int(disc(6.0).sum()), 1), 100.0, np.float32)) == pytest.approx((10 / FLOOR, 10.0))


@pytest.mark.parametrize(
    ("mask", "extent"),
    [(disc(0.0), 1.0), (line(40), 40.0), (disc(10.0), 21.0), (np.eye(SIDE, dtype=np.bool_), 96 * np.sqrt(2))],
    ids=["pixel", "line", "disc", "diagonal"],
)
def test_extent_is_the_feret_diameter(mask: Mask, extent: float) -> None:
    assert measure(rendered(textured(29, 3.0)), mask).extent == pytest.approx(extent, rel=0.02, abs=0.6)


def test_extent_does_not_depend_on_where_the_region_touches_the_border() -> None:
    inside, beside = disc(6.0), disc(6.0, row=6, column=6)
    image = rendered(textured(31, 3.0))
    assert measure(image, inside).extent == measure(image, beside).extent


def test_a_large_region_measures_the_same_in_small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    image = rendered(textured(37, 6.0) + 25.0 * disc(15.0))
    whole = measure(image, disc(15.0))
    monkeypatch.setattr(measuring, "_AT_ONCE", 1)
    steps = measure(image, disc(15.0))
    assert (steps.contrast, steps.levels) == (whole.contrast, whole.levels)


def test_a_mask_without_a_region_or_of_another_size_is_refused() -> None:
    image = rendered(textured(41, 3.0))
    with pytest.raises(PadimEdgeError, match="the mask is empty"):
        measure(image, np.zeros((SIDE, SIDE), np.bool_))
    with pytest.raises(PadimEdgeError, match=r"the mask is \(95, 96\), expected \(96, 96\)"):
        measure(image, disc(4.0)[1:])
