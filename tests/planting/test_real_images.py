"""Real defects stand out in `measure`, unharmed places do not, and plants on real images lie on the part."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from padim_edge.planting import measure, part_of, plants

SHARED = Path(os.environ.get("PADIM_EDGE_SHARED", Path(__file__).parents[3] / "shared"))
SIDE = 224
SETS = {
    "bottle": ("mvtec_ad/bottle", (0.5, 0.8)),
    "screw": ("mvtec_ad/screw", (0.08, 0.2)),
    "cookie": ("others/cookie", (0.2, 0.5)),
    "kolektor": ("others/kolektor", (1.0, 1.0)),
}
"""Folder of each data set, and the share of an image that its part covers."""


def frame(path: Path, mode: str = "RGB") -> np.ndarray:
    return np.asarray(Image.open(path).convert(mode).resize((SIDE, SIDE), Image.Resampling.BILINEAR))


@pytest.fixture(params=SETS)
def folder(request: pytest.FixtureRequest) -> tuple[Path, tuple[float, float]]:
    where, shares = SETS[request.param]
    if not (SHARED / "data" / where).is_dir():
        pytest.skip(f"needs the real images in {SHARED} (or PADIM_EDGE_SHARED)")
    return SHARED / "data" / where, shares


def good(folder: Path, count: int) -> list[np.ndarray]:
    paths = sorted((folder / "train" / "good").iterdir())
    return [frame(path) for path in paths[:: len(paths) // count][:count]]


def test_the_part_is_found(folder: tuple[Path, tuple[float, float]]) -> None:
    images = good(folder[0], 8)
    part = part_of(images)
    low, high = folder[1]
    covered = [part(image).mean() for image in images]
    assert low <= np.median(covered) <= high


def test_real_defects_stand_out_and_the_same_masks_on_good_images_do_not(
    folder: tuple[Path, tuple[float, float]],
) -> None:
    masks = sorted((folder[0] / "ground_truth").rglob("*.png"))
    masks = masks[:: max(1, len(masks) // 16)]
    images = good(folder[0], 8)
    defects, unharmed = [], []
    for number, path in enumerate(masks):
        mask = frame(path, "L") > 127
        if not mask.any():
            continue
        stem = path.stem.removesuffix("_mask")
        (image,) = (folder[0] / "test" / path.parent.name).glob(f"{stem}.*")
        defects.append(measure(frame(image), mask).contrast)
        unharmed.append(measure(images[number % len(images)], mask).contrast)
    assert len(defects) > 8
    assert np.median(defects) > np.median(unharmed) + 0.7
    assert np.quantile(defects, 0.75) > 2.0


def test_plants_on_real_images_are_measured_like_real_defects(folder: tuple[Path, tuple[float, float]]) -> None:
    """A fifth of the plants is fainter than most real defects, and a fifth is as plain as half of them."""
    images = good(folder[0], 4)
    contrasts = [found.measured.contrast for _, found in plants(enumerate(images), 14, 0, part=part_of(images))]
    assert len(contrasts) > 50
    assert np.quantile(contrasts, 0.2) < 0.6
    assert np.quantile(contrasts, 0.8) > 1.5
    grey = all((image == image[..., :1]).all() for image in images)
    for _, found in plants(enumerate(images), 3, 1, part=part_of(images)):
        assert not grey or (found.image == found.image[..., :1]).all()
