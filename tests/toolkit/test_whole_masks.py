"""A mask that lacks a part of its pixels is no mask: what is missing would count as good."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import deep_files
import drawn_images
import numpy as np
import pytest
from PIL import ImageFile

from padim_edge.datasets import shapes
from padim_edge.datasets.masks import read_mask
from padim_edge_artifact import ImageError
from padim_edge_runtime import image_files

DEFECT = np.zeros((48, 64), np.uint8)
DEFECT[8:40, 8:20] = 255


def test_a_mask_that_ends_early_is_refused(tmp_path: Path) -> None:
    (path := tmp_path / "mask.png").write_bytes(deep_files.png(DEFECT, rows=20))
    with pytest.raises(
        ImageError, match=r"the mask .*mask\.png cannot be decoded \(its pixels end early, after 41 %\)"
    ):
        read_mask(path)


def test_a_mask_that_is_cut_off_is_refused_whatever_pillow_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    content = deep_files.png(drawn_images.noise(1, (48, 64)))
    (path := tmp_path / "mask.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(ImageError, match="cannot be decoded"):
        read_mask(path)


def test_a_whole_mask_is_read(tmp_path: Path) -> None:
    """Its last row is black, as most are, so it gets the slow look."""
    (path := tmp_path / "mask.png").write_bytes(deep_files.png(DEFECT, end=False))
    assert np.array_equal(read_mask(path), DEFECT > 0)


@pytest.mark.parametrize("error", [RuntimeError, struct.error, zlib.error, RecursionError])
def test_whatever_a_decoder_raises_makes_the_mask_unreadable_and_the_size_unknown(
    error: type[Exception], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error("no image item")

    (path := tmp_path / "mask.png").write_bytes(deep_files.png(DEFECT))
    monkeypatch.setattr(image_files, "open_image", fail)
    with pytest.raises(ImageError, match=r"the mask .*mask\.png cannot be decoded \(no image item\)"):
        read_mask(path)
    assert shapes.size_of(path) is None
