"""A moved camera and a changed lamp are told apart from defects."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from padim_edge_artifact.reference import Likeness, Reference, Seen
from padim_edge_model.comparable import (
    Observed,
    check_frame,
    lower_quartile,
    merge_seen,
    reference_of,
    shift,
    thumbnail,
)
from padim_edge_model.turned import ANGLES, leans, turns_of

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


def observed_on(frames: list[np.ndarray], grid: tuple[int, int]) -> Observed:
    observed = Observed(Seen.nothing(grid))
    for each in frames:
        observed.add(each)
    for each in frames:
        observed.compare(each)
    return observed


SQUARE = (16, 16)


def round_part(seed: int, *, turns: int = 0, moved: int = 0) -> np.ndarray:
    """A disc that lies still and looks alike from all sides, with light from the upper left."""
    rows, columns = np.mgrid[:64, :64]
    random = np.random.default_rng(seed)
    disc = np.hypot(rows - 31.5, columns - 31.5 - moved) < 20
    light = np.rot90(60 + 0.5 * rows + 0.8 * columns, turns)
    plane = np.where(disc, 30, light * random.uniform(0.97, 1.03))
    return (plane[..., None] + random.normal(0, 3, (64, 64, 3))).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def disc() -> Reference:
    return reference_of(observed_on([round_part(i) for i in range(20)], SQUARE).seen)


@pytest.mark.parametrize("angle", ANGLES)
def test_a_turned_image_of_a_round_part_is_told_by_its_light(disc: Reference, angle: int) -> None:
    found = [check_frame(round_part(100 + i, turns=angle // 90), disc, SQUARE) for i in range(20)]
    assert {each.turned for each in found} == {angle}
    assert all("turned" in each.warnings for each in found)


def test_an_upright_image_with_or_without_a_defect_is_not_turned(disc: Reference) -> None:
    for i in range(20):
        whole, broken = round_part(100 + i), round_part(100 + i)
        broken[8:24, 40:56] = 255 * (i % 2)
        assert check_frame(whole, disc, SQUARE).warnings == ()
        assert check_frame(broken, disc, SQUARE).turned == 0


def test_parts_that_lie_in_any_turn_are_never_turned() -> None:
    frames = [round_part(i, turns=i % 4) for i in range(20)]
    reference = reference_of(observed_on(frames, SQUARE).seen)
    assert all(check_frame(round_part(100 + i, turns=i % 4), reference, SQUARE).turned == 0 for i in range(20))


@given(seed=st.integers(0, 1000), side=st.integers(2, 12))
@settings(max_examples=40, deadline=None)
def test_the_mean_leans_nowhere_and_a_turned_mean_leans_by_one(seed: int, side: int) -> None:
    random = np.random.default_rng(seed)
    mean, deviation = random.uniform(0, 255, (side, side)), random.uniform(0, 30, (side, side))
    turns = turns_of(mean, deviation)
    assert leans(mean, turns) == pytest.approx((0, 0, 0), abs=1e-9)
    for i, angle in enumerate(ANGLES):
        if turns.towards[i].any():
            assert leans(np.rot90(mean, angle // 90), turns)[i] == pytest.approx(1, abs=1e-6)


@given(seed=st.integers(0, 1000), gain=st.floats(0.9, 1.1), offset=st.floats(-5, 5))
@settings(max_examples=40, deadline=None)
def test_brightness_and_contrast_are_no_turn(seed: int, gain: float, offset: float) -> None:
    random = np.random.default_rng(seed)
    mean, deviation = random.uniform(80, 90, (9, 9)), random.uniform(20, 30, (9, 9))
    assert leans(gain * mean + offset, turns_of(mean, deviation)) == pytest.approx((0, 0, 0), abs=1e-9)


@pytest.mark.parametrize("mean", [np.zeros((5, 5)), np.full((1, 1), 7.0), np.ones((2, 3))])
def test_a_mean_that_looks_the_same_turned_tells_no_turn(mean: np.ndarray) -> None:
    assert leans(mean + 9, turns_of(mean, np.zeros(mean.shape))) == (0, 0, 0)
    oblong = turns_of(np.random.default_rng(0).random((4, 6)), np.ones((4, 6)))
    assert [bool(each.any()) for each in oblong.towards] == [False, True, False]


def distances(level: float, count: int = 1, seed: int = 0) -> np.ndarray:
    return level * np.random.default_rng(seed).uniform(0.9, 1.1, (count, *GRID))


def with_distances(frames: list[np.ndarray], each: np.ndarray) -> Reference:
    observed = observed_on(frames, GRID)
    for some in np.array_split(each, 3):
        observed.add_distances(some)
    return reference_of(observed.seen)


def test_an_image_that_is_far_nearly_everywhere_is_unlike_and_a_defect_is_not() -> None:
    reference = with_distances([frame(i) for i in range(12)], distances(4, 12))
    assert check_frame(frame(50), reference, GRID, distances(4)[0]).warnings == ()
    assert check_frame(frame(50), reference, GRID, distances(16)[0]).warnings == ("unlike",)
    defect = distances(4)[0]
    defect[: GRID[0] * 7 // 10] = 100
    assert check_frame(frame(50), reference, GRID, defect).warnings == ()


def test_one_odd_good_image_does_not_set_the_limit_of_the_unlike() -> None:
    clean = distances(4, 30)
    odd = np.concatenate([clean, distances(12)])
    limit = with_distances([frame(0), frame(1)], odd).unlike
    assert lower_quartile(odd).max() < limit < 1.2 * lower_quartile(odd).max()


@given(cut=st.integers(1, 11), seed=st.integers(0, 100))
@settings(max_examples=20, deadline=None)
def test_sums_of_shards_are_the_sums_of_all(cut: int, seed: int) -> None:
    frames, each = [frame(i) for i in range(12)], distances(4, 12, seed)
    shards = []
    for part in (slice(0, cut), slice(cut, None)):
        observed = Observed(Seen.nothing(GRID))
        for one in frames[part]:
            observed.add(one)
        observed.add_distances(each[part])
        shards.append(observed.seen)
    merged, whole = merge_seen(*shards), Observed(Seen.nothing(GRID))
    for one in frames:
        whole.add(one)
    whole.add_distances(each)
    assert merged.deviation == pytest.approx(whole.seen.deviation, abs=1e-6)
    assert (merged.likeness.judged, merged.likeness.highest) == (12, whole.seen.likeness.highest)
    assert merged.likeness.logs == pytest.approx(whole.seen.likeness.logs)
    nothing = merge_seen(Seen.nothing(GRID), merged)
    assert (nothing.likeness, nothing.count) == (merged.likeness, merged.count)


def test_a_model_without_the_newer_numbers_makes_the_older_checks(reference: Reference) -> None:
    older = Reference(reference.mean, reference.brightness, reference.contrast, reference.shift)
    assert check_frame(frame(7), older, GRID, distances(1e6)[0]).warnings == ()
    assert check_frame(frame(7, moved=(12, 0)), older, GRID).warnings == ("shift",)
    unmeasured = reference_of(Observed(Seen.nothing(GRID)).seen)
    assert (unmeasured.turned, unmeasured.unlike) == ((), 0.0)
    assert Seen.nothing(GRID).likeness == Likeness()


@pytest.mark.parametrize("level", [0, 255])
def test_a_plain_image_is_not_comparable_also_where_most_of_a_good_one_is_plain(level: int) -> None:
    """A small part before black, or before white: what is missing is a small part of the image."""
    frames = [np.full((*SIZE, 3), level, np.uint8) for _ in range(6)]
    for i, each in enumerate(frames):
        each[20:34, 20 + i % 2 : 34 + i % 2] = 128
    plain = np.full((*SIZE, 3), level, np.uint8)
    reference = reference_of(observed_on(frames, GRID).seen)
    assert check_frame(frames[0], reference, GRID).warnings == ()
    assert "exposure" in check_frame(plain, reference, GRID).warnings


def test_a_defect_of_high_contrast_is_not_taken_for_the_light(reference: Reference) -> None:
    broken = frame(7)
    broken[10:30, 40:60] = 255
    small = thumbnail(broken, GRID)
    assert small.mean() > reference.brightness[1] + 4
    assert check_frame(broken, reference, GRID).warnings == ()
