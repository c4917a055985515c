"""Procedural images, and the rules that a resumed training relies on."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[2]))  # the tools are not installed

from tools.builtin import procedural

COUNT = 64
"""Number of images, enough for statistics over them."""


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return procedural.batch(0, 0, COUNT, 128)


def test_an_image_depends_on_seed_and_number_alone():
    together = procedural.batch(5, 0, 6, 96)
    assert np.array_equal(together, procedural.batch(5, 0, 6, 96))
    for number in (5, 3, 0):
        assert np.array_equal(together[number], procedural.batch(5, number, 1, 96)[0])


@pytest.mark.parametrize("size", [96, 128, 130, 160, 224])
def test_images_have_the_size_asked_for(size):
    drawn = procedural.batch(1, 100, 12, size)
    assert drawn.shape == (12, size, size, 3)
    assert drawn.dtype == np.uint8


def test_no_images_is_an_empty_batch():
    assert procedural.batch(0, 0, 0, 96).shape == (0, 96, 96, 3)


def test_an_image_can_be_drawn_from_any_generator():
    assert np.array_equal(procedural.draw(np.random.default_rng([5, 2]), 96), procedural.batch(5, 2, 1, 96)[0])


def test_all_images_differ(images):
    assert len({image.tobytes() for image in images}) == COUNT


def test_seeds_draw_different_images(images):
    other = procedural.batch(1, 0, 8, 128)
    assert all(not np.array_equal(*pair) for pair in zip(images[:8], other, strict=True))


def test_images_show_something(images):
    deviations = images.std(axis=(1, 2, 3))
    assert np.mean(deviations < 3.0) < 0.1
    assert np.median(deviations) > 20.0


def test_dark_and_bright_images_both_occur(images):
    low, high = np.percentile(images.mean(axis=(1, 2, 3)), [5, 95])
    assert high - low > 80.0


def test_some_images_are_grey_and_others_coloured(images):
    apart = np.ptp(images.astype(np.int16), axis=3)
    assert np.mean(apart.max(axis=(1, 2)) == 0) >= 0.2
    assert np.mean(apart.mean(axis=(1, 2)) > 10.0) >= 0.3
