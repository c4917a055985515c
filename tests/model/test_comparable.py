"""A moved camera and a changed lamp are told apart from defects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact.reference import Reference, Seen
from padim_edge_model.comparable import Observed, check_frame, reference_of, shift, thumbnail

GRID = (16, 20)
SIZE = (64, 80)


def frame(seed: int, *, level: float = 1.0, moved: tuple[int, int] = (0, 0)) -> np.ndarray:
    """A part that lies still: fixed blobs on a plain ground, with some noise."""
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    plane = np.full(SIZE, 80.0)
    for y, x, reach, height in ((20, 24, 9, 90), (40, 50, 7, 60), (30, 60, 4, 70)):
        plane += height * np.exp(-(((rows - y - moved[0]) ** 2 + (columns - x - moved[1]) ** 2) / (2 * reach**2)))
    noise = np.random.default_rng(seed).normal(0, 3, (*SIZE, 3))
    return ((plane[..., None] + noise) * level).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def reference() -> Reference:
    observed = Observed(Seen.nothing(GRID))
    frames = [frame(i) for i in range(12)]
    for each in frames:
        observed.add(each)
    for each in frames:
        observed.compare(each)
    return reference_of(observed.seen)


@given(height=st.integers(4, 50), width=st.integers(4, 50), data=st.data())
@settings(max_examples=40, deadline=None)
def test_a_thumbnail_is_the_mean_of_each_cell(height: int, width: int, data: st.DataObject) -> None:
    grid = (data.draw(st.integers(1, height)), data.draw(st.integers(1, width)))
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    small = thumbnail(pixels, grid)
    for i in range(grid[0]):
        for j in range(grid[1]):
            rows = slice(i * height // grid[0], (i + 1) * height // grid[0])
            columns = slice(j * width // grid[1], (j + 1) * width // grid[1])
            assert small[i, j] == pytest.approx(pixels[rows, columns].mean())


def test_good_images_that_were_not_seen_raise_no_warning(reference: Reference) -> None:
    assert all(check_frame(frame(100 + i), reference, GRID).warnings == () for i in range(20))


@pytest.mark.parametrize("moved", [(12, 0), (0, -12), (12, 12), (-12, 8)])
def test_a_moved_image_is_told_with_its_shift_in_patches(reference: Reference, moved: tuple[int, int]) -> None:
    found = check_frame(frame(7, moved=moved), reference, GRID)
    assert found.warnings == ("shift",)
    assert found.shift == (moved[0] // 4, moved[1] // 4)


@pytest.mark.parametrize("level", [0.5, 0.8, 1.3])
def test_a_darker_or_brighter_image_is_told(reference: Reference, level: float) -> None:
    assert "exposure" in check_frame(frame(7, level=level), reference, GRID).warnings


def test_a_defect_is_neither(reference: Reference) -> None:
    broken = frame(7)
    broken[28:36, 30:38] = 20
    assert check_frame(broken, reference, GRID).warnings == ()


def test_parts_that_never_lie_still_raise_no_warning_when_they_move() -> None:
    """The limit is what the good images did."""
    observed = Observed(Seen.nothing(GRID))
    frames = [frame(i, moved=(12 * (i % 3 - 1), 0)) for i in range(12)]
    for each in frames:
        observed.add(each)
    for each in frames:
        observed.compare(each)
    assert check_frame(frame(50, moved=(12, 0)), reference_of(observed.seen), GRID).warnings == ()


@pytest.mark.parametrize("plane", [np.zeros(GRID), np.full(GRID, 128.0)])
def test_a_plain_image_has_no_shift(plane: np.ndarray) -> None:
    assert shift(plane, plane) == (0, 0)
    assert shift(plane, thumbnail(frame(0), GRID)) == (0, 0)


@pytest.mark.parametrize("grid", [(1, 1), (2, 3), (5, 1)])
def test_tiny_grids_do_not_break_it(grid: tuple[int, int]) -> None:
    observed = Observed(Seen.nothing(grid))
    for look in (observed.add, observed.compare):
        look(frame(0))
    assert check_frame(frame(1), reference_of(observed.seen), grid).warnings == ()
