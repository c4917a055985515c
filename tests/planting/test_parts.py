"""The part is found where there is a background, and is everywhere where there is none."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from padim_edge import sample
from padim_edge.planting import part_of


def scene(seed: int, part: int, background: int, slope: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Image of a rough disc with a hole in it, on an unevenly lit background, and the true part."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((120, 160))
    true = np.hypot(rows - 60 - rng.uniform(-8, 8), columns - 80 - rng.uniform(-8, 8)) < 38
    light = 1.0 + slope * (columns / 160 - 0.5)
    plane = np.where(true, part, background * light) + 4.0 * rng.standard_normal(true.shape)
    plane = ndimage.gaussian_filter(plane, 0.8)
    return np.repeat(np.clip(plane, 0, 255).astype(np.uint8)[..., None], 3, axis=2), true


@pytest.mark.parametrize(("part", "background"), [(60, 200), (190, 40), (130, 240)])
def test_the_part_is_what_differs_from_the_border(part: int, background: int) -> None:
    images = [scene(seed, part, background, 0.15) for seed in range(4)]
    found = part_of([image for image, _ in images])
    for image, true in images:
        mask = found(image)
        overlap = (mask & true).sum() / (mask | true).sum()
        assert mask.shape == true.shape
        assert overlap > 0.96


def test_a_shadow_is_not_the_part() -> None:
    image, true = scene(0, 60, 200)
    beside = ndimage.shift(true, (4, 4), order=0) & ~true
    image[beside] = 150
    found = part_of([image])(image)
    assert (found & beside).sum() < 0.25 * beside.sum()
    assert (found & true).sum() > 0.95 * true.sum()


def test_a_texture_is_part_everywhere() -> None:
    cloth = [sample.draw_good("weave", index, size=96) for index in range(3)]
    noise = [np.random.default_rng(seed).integers(0, 256, (64, 80, 3), np.uint8) for seed in range(3)]
    flat = [np.full((64, 64, 3), 128, np.uint8)]
    for images in (cloth, noise, flat):
        assert part_of(images)(images[0]).all()


def test_the_drawn_bottle_is_found_and_its_stage_is_not() -> None:
    images = [sample.draw_good("bottle", index, size=128) for index in range(3)]
    found = part_of(images)(images[0])
    assert found[64, 64]
    assert found[64, 20]
    assert not found[2, 2]
    assert 0.5 < found.mean() < 0.65  # a disc of radius 0.87 covers 0.59


def test_most_images_decide_whether_there_is_a_background() -> None:
    parts = [scene(seed, 60, 200)[0] for seed in range(3)]
    texture = np.random.default_rng(1).integers(90, 160, (120, 160, 3)).astype(np.uint8)
    assert not part_of([*parts, texture])(parts[0]).all()
    assert part_of([*parts, texture])(texture).all()
    assert part_of([texture, texture, texture, texture, parts[0]])(parts[0]).all()


def test_an_iterator_does_as_well_as_a_list() -> None:
    images = [scene(seed, 60, 200)[0] for seed in range(3)]
    assert np.array_equal(part_of(iter(images))(images[1]), part_of(images)(images[1]))
