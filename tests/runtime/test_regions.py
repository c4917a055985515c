"""The map in the image's own pixels, and the regions above the threshold in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from padim_edge_artifact import Preprocessing
from padim_edge_runtime.regions import find_regions, label, to_image

FLOAT32 = 1e-6
"""Relative: interpolation in float32 rounds each weight and each sum once."""
RESIZE = 1e-6
"""Relative to the maximum: both ways of interpolating round in float32; measured 2e-7."""
ON_THE_EDGE = 1e-6
"""Pixels: a pixel whose centre is this near to the edge of the judged part may fall on either side of it."""

Map = npt.NDArray[np.float32]


@pytest.fixture(scope="module")
def ndimage() -> Any:
    """The reference for labels; devices do without."""
    return pytest.importorskip("scipy.ndimage", reason="scipy is not installed")


masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 24), st.integers(1, 24)))
sides = st.integers(8, 120)


@st.composite
def preprocessings(draw: st.DrawFn, *, crop: bool = True) -> Preprocessing:
    rows, columns = draw(st.integers(4, 40)), draw(st.integers(4, 40))
    cut = st.tuples(st.integers(2, rows), st.integers(2, columns)) if crop else st.none()
    return Preprocessing((rows, columns), draw(cut))


def random_map(size: tuple[int, int], seed: int) -> Map:
    return np.random.default_rng(seed).gamma(2, 3, size).astype(np.float32)


def assert_same_regions(found: npt.NDArray[np.intp], expected: npt.NDArray[np.intp]) -> None:
    """Equal up to the numbers of the regions."""
    pairs = {(int(a), int(b)) for a, b in zip(found.ravel(), expected.ravel(), strict=True)}
    assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
    assert ((found > 0) == (expected > 0)).all()


@settings(deadline=None, max_examples=300)
@given(masks)
def test_labels_are_scipys_with_8_neighbours(ndimage: Any, mask: npt.NDArray[np.bool_]) -> None:
    found = label(mask)
    assert_same_regions(found, ndimage.label(mask, np.ones((3, 3)))[0])
    assert set(np.unique(found)) - {0} == set(range(1, found.max(initial=0) + 1)), "numbers without gaps"


@pytest.mark.parametrize("density", [0.0, 0.05, 0.3, 0.41, 0.6, 1.0])
def test_labels_of_large_masks(ndimage: Any, density: float) -> None:
    """Near 0.41 the regions are as winding as they get."""
    mask = np.random.default_rng(0).random((224, 256)) < density
    assert_same_regions(label(mask), ndimage.label(mask, np.ones((3, 3)))[0])


@pytest.mark.parametrize(
    ("rows", "regions"),
    [
        (["#.#", ".#.", "#.#"], 1),
        (["#.#", "...", "#.#"], 4),
        (["#####", "#...#", "#.#.#", "#...#", "#####"], 2),
        (["#.#.#", "#.#.#", "#####"], 1),
        (["#...", ".#..", "..#.", "...#"], 1),
        (["...."], 0),
    ],
)
def test_labels_of_figures(rows: list[str], regions: int) -> None:
    """Diagonals touch; a ring and what it holds do not; the teeth of a comb are one."""
    assert label(np.array([[c == "#" for c in row] for row in rows])).max() == regions


@settings(deadline=None, max_examples=100)
@given(preprocessings(), sides, sides, st.integers(0, 99), st.floats(0.5, 20))
def test_regions_are_inside_the_image_and_hold_every_cell_above_the_threshold(
    preprocessing: Preprocessing, width: int, height: int, seed: int, threshold: float
) -> None:
    anomaly_map = random_map(preprocessing.size, seed)
    regions = find_regions(anomaly_map, threshold, preprocessing, width, height)
    frame = preprocessing.judged_box(width, height)
    down, across = frame.height / anomaly_map.shape[0], frame.width / anomaly_map.shape[1]
    for region in regions:
        x, y, w, h = region.box
        assert x >= 0
        assert y >= 0
        assert 1 <= w <= width - x
        assert 1 <= h <= height - y
        assert x <= region.peak[0] < x + w
        assert y <= region.peak[1] < y + h
        assert region.area >= 1
        assert region.score > threshold
    for row, column in np.argwhere(anomaly_map > threshold):
        top, left = frame.top + row * down, frame.left + column * across
        assert any(
            x <= left + ON_THE_EDGE
            and left + across <= x + w + ON_THE_EDGE
            and y <= top + ON_THE_EDGE
            and top + down <= y + h + ON_THE_EDGE
            for x, y, w, h in (region.box for region in regions)
        ), (row, column)


@settings(deadline=None, max_examples=100)
@given(preprocessings(), sides, sides, st.integers(0, 99))
def test_the_highest_region_comes_first_and_holds_the_maps_maximum(
    preprocessing: Preprocessing, width: int, height: int, seed: int
) -> None:
    anomaly_map = random_map(preprocessing.size, seed)
    regions = find_regions(anomaly_map, 8.0, preprocessing, width, height)
    scores = [region.score for region in regions]
    assert scores == sorted(scores, reverse=True)
    assert (scores[0] if scores else None) == (anomaly_map.max() if anomaly_map.max() > 8 else None)


def test_a_map_at_the_threshold_has_no_region() -> None:
    """Anomalous is above the threshold, for the regions as for the decision."""
    at = np.full((8, 8), 3, np.float32)
    assert find_regions(at, 3.0, Preprocessing((8, 8)), 80, 80) == ()
    (region,) = find_regions(at, np.nextafter(np.float32(3), np.float32(0)), Preprocessing((8, 8)), 80, 60)
    assert region.box == (0, 0, 80, 60)
    assert region.area == 80 * 60


def test_a_region_lies_where_it_is_in_the_image() -> None:
    """Cells of 10 x 5 pixels, 8 x 8 of them cropped out of 10 x 10."""
    anomaly_map = np.zeros((8, 8), np.float32)
    anomaly_map[2:4, 5:8] = 4
    anomaly_map[3, 6] = 5
    (region,) = find_regions(anomaly_map, 1.0, Preprocessing((10, 10), (8, 8)), 100, 50)
    assert region.box == (60, 15, 30, 10)
    assert region.area == 300
    assert region.peak == (75, 22)
    assert region.score == 5


@settings(deadline=None, max_examples=100)
@given(preprocessings(), sides, sides, st.floats(0, 1e4, width=32))
def test_a_constant_map_stays_constant(preprocessing: Preprocessing, width: int, height: int, value: float) -> None:
    shown = to_image(np.full(preprocessing.size, value, np.float32), preprocessing, width, height)
    assert shown.shape == (height, width)
    assert shown.dtype == np.float32
    seen = shown[~np.isnan(shown)]
    np.testing.assert_allclose(seen, value, rtol=FLOAT32)


@settings(deadline=None, max_examples=100)
@given(preprocessings(), sides, sides, st.integers(0, 99))
def test_a_pixel_is_nan_exactly_where_the_model_did_not_look(
    preprocessing: Preprocessing, width: int, height: int, seed: int
) -> None:
    """The centre decides about pixels that are partly seen."""
    shown = to_image(random_map(preprocessing.size, seed), preprocessing, width, height)
    box = preprocessing.judged_box(width, height)
    y, x = np.meshgrid(np.arange(height) + 0.5, np.arange(width) + 0.5, indexing="ij")
    inside = np.minimum.reduce([x - box.left, box.right - x, y - box.top, box.bottom - y])
    decided = np.abs(inside) > ON_THE_EDGE
    assert (np.isnan(shown) == (inside < 0))[decided].all()


@settings(deadline=None, max_examples=100)
@given(preprocessings(), sides, sides, st.integers(0, 99))
def test_no_value_leaves_the_maps_range(preprocessing: Preprocessing, width: int, height: int, seed: int) -> None:
    """An image cannot look worse than its score."""
    anomaly_map = random_map(preprocessing.size, seed)
    shown = to_image(anomaly_map, preprocessing, width, height)
    assert np.nanmax(shown, initial=0) <= anomaly_map.max() * (1 + FLOAT32)
    assert np.nanmin(shown, initial=np.inf) >= anomaly_map.min() * (1 - FLOAT32)


@settings(deadline=None, max_examples=60)
@given(preprocessings(crop=False), st.integers(1, 6), st.integers(1, 6), st.integers(0, 3), st.integers(0, 99))
def test_a_whole_frame_enlarged_is_pillows_bilinear_resize(
    preprocessing: Preprocessing, across: int, down: int, more: int, seed: int
) -> None:
    anomaly_map = random_map(preprocessing.size, seed)
    width, height = anomaly_map.shape[1] * across + more, anomaly_map.shape[0] * down + more
    expected = np.asarray(Image.fromarray(anomaly_map).resize((width, height), Image.Resampling.BILINEAR))
    shown = to_image(anomaly_map, preprocessing, width, height)
    np.testing.assert_allclose(shown, expected, rtol=0, atol=RESIZE * anomaly_map.max())


def test_a_crop_is_placed_where_it_was_cut() -> None:
    anomaly_map = random_map((6, 4), 0)
    shown = to_image(anomaly_map, Preprocessing((10, 10), (6, 4)), 10, 10)
    np.testing.assert_array_equal(shown[2:8, 3:7], anomaly_map)
    assert np.isnan(shown).sum() == 100 - 24
