"""Overlays: the image in its own size, calm where all is well, and the same colour for the same distance."""

from __future__ import annotations

import drawn_images
import numpy as np
import pytest
from PIL import Image

from padim_edge_runtime.inspection import ANOMALOUS, GOOD, NOT_COMPARABLE
from padim_edge_runtime.overlay import overlay

THRESHOLD = 10.0
VERDICTS = (GOOD, ANOMALOUS, NOT_COMPARABLE)


def draw(image: Image.Image, image_map: np.ndarray, *, verdict: str = "good") -> np.ndarray:
    shown = overlay(image, image_map.astype(np.float32), THRESHOLD, verdict=verdict, score=image_map.max())
    assert shown.mode == "RGB"
    assert shown.size == image.size
    return np.asarray(shown)


def bump(size: tuple[int, int], peak: float) -> np.ndarray:
    """A map that is `peak` in the middle and falls to 0 at the border."""
    y, x = np.meshgrid(np.linspace(-1, 1, size[0]), np.linspace(-1, 1, size[1]), indexing="ij")
    return peak * np.clip(1 - np.hypot(x, y), 0, 1)


@pytest.mark.parametrize("size", [(8, 8), (8, 300), (300, 8), (63, 65), (480, 640)])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_any_size_is_kept_also_the_smallest(size: tuple[int, int], verdict: str) -> None:
    image = Image.fromarray(drawn_images.noise(0, size))
    shown = draw(image, bump(size, 30), verdict=verdict)
    assert shown.shape == (*size, 3)
    middle = shown[size[0] // 2, size[1] // 2]
    assert (middle == 255).all() or middle[0] > middle[2], "an outline, or warm"


def test_far_below_the_threshold_the_image_shows_unchanged_but_for_the_caption() -> None:
    image = drawn_images.good(0, (200, 300))
    shown = draw(image, np.full((200, 300), THRESHOLD * 0.45))
    changed = (shown != np.asarray(image)).any(axis=-1)
    rows, columns = np.nonzero(changed)
    assert changed.any(), "the caption"
    assert rows.min() > 160, "the caption stands at the bottom"
    assert columns.max() < 250


def test_above_the_threshold_the_image_is_coloured() -> None:
    image = Image.new("RGB", (100, 100), (80, 80, 80))
    shown = draw(image, np.full((100, 100), THRESHOLD * 2), verdict=ANOMALOUS)
    assert shown[30, 50, 0] > 150
    assert shown[30, 50, 2] < 80


def test_the_same_value_has_the_same_colour_on_different_maps() -> None:
    """Colours are not stretched to each map's own range, so that a good image looks calm beside a bad one."""
    image = Image.new("RGB", (120, 120), (90, 100, 110))
    for value in (6.0, 9.0, 11.0, 14.0, 25.0):
        colours = set()
        for others in (0.0, value, 40.0):
            image_map = np.full((120, 120), others)
            image_map[20:60, 20:60] = value
            colours.add(tuple(draw(image, image_map)[40, 40].tolist()))
        assert len(colours) == 1, f"{value}: {colours}"


def test_a_higher_value_is_warmer() -> None:
    """Red minus blue rises with the distance, from blue at 0.8 of the threshold to red at twice of it."""
    image = Image.new("RGB", (60, 60), (90, 90, 90))
    warmth = []
    for value in (8.0, 10.0, 20.0):
        red, _, blue = draw(image, np.full((60, 60), value))[20, 30].astype(int)
        warmth.append(red - blue)
    assert warmth == sorted(warmth)
    assert warmth[0] < 0 < warmth[-1]


def test_the_colours_are_those_of_the_scale_interpolated_for_each_pixel() -> None:
    """Far values and those below zero are at the ends of the scale."""
    scale = np.array(
        [
            (0.5, 20, 60, 190, 0.0),
            (0.8, 0, 150, 200, 0.35),
            (1.0, 255, 210, 0, 0.45),
            (1.3, 255, 110, 0, 0.6),
            (2.0, 220, 0, 20, 0.75),
        ]
    )
    pixels = drawn_images.noise(1, (300, 400))
    levels = np.random.default_rng(2).permutation(np.linspace(-0.1, 2.5, 300 * 400)).reshape(300, 400)
    levels[0, 0] = 1e30
    stops, *colours, opacity = scale.T
    share = np.interp(levels, stops, opacity)[..., None]
    shades = np.stack([np.interp(levels, stops, colour) for colour in colours], axis=-1)
    shown = draw(Image.fromarray(pixels), levels * THRESHOLD)
    error = np.abs(shown - (pixels * (1 - share) + shades * share))
    above, caption = levels > 1, np.arange(300)[:, None] > 260
    assert error[~above & ~caption].max() < 0.6, "half a step of rounding, and a little of the table"
    inside = above & (shown != 255).any(axis=-1) & ~caption  # the rest is outline
    assert inside.sum() > 500
    assert error[inside].max() < 0.6


def test_a_region_above_the_threshold_is_outlined_in_white() -> None:
    image_map = np.zeros((100, 100))
    image_map[20:50, 30:70] = THRESHOLD * 1.5
    shown = draw(Image.new("RGB", (100, 100), (90, 90, 90)), image_map)
    white = (shown == 255).all(axis=-1)
    assert white[20, 30:70].all()
    assert white[20:50, 30].all()
    assert not white[25:45, 35:65].any()
    assert not white[:20].any(), "the outline stays inside the region"


def test_what_the_model_did_not_see_is_darkened() -> None:
    image_map = np.zeros((100, 100))
    image_map[:, :20] = np.nan
    shown = draw(Image.new("RGB", (100, 100), (200, 200, 200)), image_map)
    assert shown[40, 10, 0] < 150
    assert shown[40, 60, 0] == 200


def test_the_image_itself_is_left_alone() -> None:
    image = drawn_images.good(0)
    before = np.array(image)
    draw(image, bump((96, 96), 30))
    assert np.array_equal(np.asarray(image), before)


def test_a_threshold_of_zero_shows_every_distance_in_the_warmest_colour() -> None:
    """`--threshold 0` is a way to see every region."""
    image = Image.new("RGB", (96, 96), (100, 100, 100))
    image_map = np.zeros((96, 96), np.float32)
    image_map[10:30, 10:30] = 0.01
    shown = np.asarray(overlay(image, image_map, 0.0, verdict=ANOMALOUS, score=0.01))
    assert np.array_equal(shown[20, 20], [190, 25, 40]), "a quarter of the image under three quarters of red"
    assert np.array_equal(shown[50, 50], [100, 100, 100])


def test_boxes_are_drawn_as_corners_that_leave_their_sides_open() -> None:
    image = Image.new("RGB", (100, 100), (90, 90, 90))
    nothing = np.zeros((100, 100), np.float32)
    plain = np.asarray(overlay(image, nothing, THRESHOLD, verdict=ANOMALOUS, score=1))
    boxed = np.asarray(overlay(image, nothing, THRESHOLD, verdict=ANOMALOUS, score=1, boxes=[(20, 10, 40, 24)]))
    rows, columns = np.nonzero((plain != boxed).any(axis=-1))
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (20, 59, 10, 33)
    assert (boxed[10, 20:27] == 255).all()
    assert (boxed[10, 53:60] == 255).all()
    assert (boxed[10, 28:52] == 90).all(), "open in the middle of the upper side"
    assert (boxed[10:17, 20] == 255).all()
    assert (boxed[18:26, 20] == 90).all(), "and of the left one"


def test_the_caption_says_the_verdict_by_its_ground_too() -> None:
    image = Image.new("RGB", (400, 300), (90, 90, 90))
    nothing = np.zeros((300, 400))
    good, bad, other = (draw(image, nothing, verdict=verdict)[299, 1].tolist() for verdict in VERDICTS)
    assert (good, bad, other) == ([25, 95, 45], [170, 0, 15], [140, 85, 0])


def test_a_tiny_image_has_no_room_for_a_caption() -> None:
    image = Image.new("RGB", (20, 20), (90, 90, 90))
    assert np.array_equal(draw(image, np.zeros((20, 20))), np.asarray(image))
