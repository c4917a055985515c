"""Machinery of `python -m benchmarks.verdicts`; no model is fitted."""

from __future__ import annotations

import numpy as np
from PIL import Image

from benchmarks import verdicts
from benchmarks.verdicts import Row


def test_an_image_is_moved_by_a_share_of_its_sides() -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10, 20] = 255
    found = np.asarray(verdicts.moved(Image.fromarray(pixels), 0.1, -0.1))
    assert found.shape == pixels.shape
    assert np.argwhere(found[..., 0]).tolist() == [[6, 26]]


def test_another_lens_keeps_the_size_and_the_middle() -> None:
    pixels = np.full((40, 60, 3), 200, np.uint8)
    pixels[15:25, 20:40] = 0
    for factor in (0.8, 1.25):
        dark = np.asarray(verdicts.scaled(Image.fromarray(pixels), factor))[..., 0] < 100
        rows, columns = np.nonzero(dark)
        assert dark.shape == (40, 60)
        assert abs(dark.sum() / 200 - factor**2) < 0.1
        assert abs(rows.mean() - 19.5) < 1
        assert abs(columns.mean() - 29.5) < 1


def test_targets_are_those_of_the_model_of_all_images() -> None:
    rows = [
        Row("bottle", "all", "black", 20, 20, {"unlike": 20}),
        Row("bottle", "all", "lens 0.8", 20, 1, {}),
        Row("bottle", "all", "good", 20, 1, {"shift": 1}),
        Row("bottle", "20, draw 0", "black", 20, 0, {}),
        Row("bottle", "20, draw 0", "good", 100, 1, {}),
        Row("bottle", "20, draw 1", "good", 100, 0, {}),
    ]
    found = {target.what: (target.found, target.reached) for target in verdicts.promised(rows)}
    assert found == {
        "bottle, black": (1.0, True),
        "bottle, fitted on all good images: good images called not comparable": (0.05, False),
        "bottle, fitted on few good images: good images called not comparable": (0.005, True),
    }
