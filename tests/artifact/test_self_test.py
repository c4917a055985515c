"""The self-test image is the same on every machine, and has contrast at every scale."""

from __future__ import annotations

import hashlib
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from padim_edge_artifact.self_test import probe_image, sample_points

DIGESTS = {(64, 64): "0a44278560e73ca2", (224, 224): "6c92a3921e1baa87", (5, 300): "10378f649bec418a"}
"""SHA-256 of the pixels. Models in the field hold their answer to exactly this image."""


@pytest.mark.parametrize("size", DIGESTS)
def test_the_image_never_changes(size: tuple[int, int]) -> None:
    pixels = probe_image(size)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (*size, 3)
    assert hashlib.sha256(pixels.tobytes()).hexdigest()[:16] == DIGESTS[size]


def test_every_channel_uses_the_whole_range_and_differs_from_the_others() -> None:
    pixels = probe_image((224, 224)).reshape(-1, 3).astype(float)
    assert (pixels.max(axis=0) - pixels.min(axis=0) > 200).all()
    assert (np.corrcoef(pixels.T)[np.triu_indices(3, 1)] < 0.9).all()


@given(st.tuples(st.integers(1, 400), st.integers(1, 400)))
def test_sample_points_lie_in_the_map_and_reach_its_corners(size: tuple[int, int]) -> None:
    rows, columns = sample_points(size)
    assert len(rows) == len(columns) == 16
    assert (rows.min(), rows.max()) == (0, size[0] - 1)
    assert (columns.min(), columns.max()) == (0, size[1] - 1)


def test_a_camera_s_frame_is_drawn_in_little_memory() -> None:
    """The image itself, and no more than some rows of wider numbers."""
    tracemalloc.start()
    image = probe_image((4000, 1000))
    assert tracemalloc.get_traced_memory()[1] < 1.6 * image.nbytes
    tracemalloc.stop()
