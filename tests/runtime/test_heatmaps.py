"""Heat maps as files: overlapped, large ones one at a time, and each the overlay of its own image."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import drawn_images
import numpy as np
import pytest
from PIL import Image

from padim_edge_artifact import PadimEdgeError
from padim_edge_runtime import Detector, Inspection, heatmaps
from padim_edge_runtime.heatmaps import heat_maps
from padim_edge_runtime.pipeline import workers_of

COUNT = 8


@pytest.fixture
def detector(golden: Path) -> Detector:
    return Detector.load(golden, "cpu", threads=1)


@pytest.fixture
def parts(tmp_path: Path) -> list[tuple[Path, Path]]:
    found = []
    for i in range(COUNT):
        path = tmp_path / f"{i}.png"
        drawn_images.good(i, (60 + i, 80)).save(path)
        found.append((path, Path(path.name)))
    return found


def draw(detector: Detector, files: list[tuple[Path, Path]], folder: Path, workers: int) -> list[Inspection]:
    hook = heat_maps(folder, files, workers=workers)
    found = detector.inspect_many((path for path, _ in files), hook=hook)
    return [each for each in found if isinstance(each, Inspection)]


def test_each_file_is_the_overlay_of_its_image(
    detector: Detector, parts: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    for inspection in draw(detector, parts, tmp_path / "heat", workers_of(detector)):
        assert inspection.path is not None
        written = np.asarray(Image.open(tmp_path / "heat" / inspection.path.name))
        assert np.array_equal(written, np.asarray(inspection.overlay()))


@pytest.mark.parametrize(("largest", "most"), [(10**9, 2), (1, 1)])
def test_large_images_are_drawn_one_at_a_time(
    detector: Detector,
    parts: list[tuple[Path, Path]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    largest: int,
    most: int,
) -> None:
    """Drawing takes some hundred bytes a pixel."""
    monkeypatch.setattr("padim_edge_runtime.pipeline.cores", lambda: 2)
    monkeypatch.setattr(heatmaps, "DRAWN_TOGETHER", largest)
    overlay, lock, now, seen = Inspection.overlay, threading.Lock(), [0], [0]

    def slow(inspection: Inspection) -> Image.Image:
        with lock:
            now[0] += 1
            seen[0] = max(seen[0], now[0])
        time.sleep(0.02)
        try:
            return overlay(inspection)
        finally:
            with lock:
                now[0] -= 1

    monkeypatch.setattr(Inspection, "overlay", slow)
    draw(detector, parts, tmp_path / "heat", 2)
    assert seen[0] == most
    assert len(list((tmp_path / "heat").iterdir())) == COUNT


def test_a_file_that_is_given_twice_gets_two(
    detector: Detector, parts: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    draw(detector, [parts[0], parts[1], parts[0]], tmp_path / "heat", 2)
    assert sorted(path.name for path in (tmp_path / "heat").iterdir()) == ["0-2.png", "0.png", "1.png"]
    first, second = (np.asarray(Image.open(tmp_path / "heat" / name)) for name in ("0.png", "0-2.png"))
    assert np.array_equal(first, second)


def test_overlays_of_grey_images_are_those_of_the_same_in_rgb(detector: Detector, tmp_path: Path) -> None:
    grey = drawn_images.defective(3)[0].convert("L")
    grey.save(tmp_path / "grey.png")
    grey.convert("RGB").save(tmp_path / "rgb.png")
    draw(detector, [(tmp_path / name, Path(name)) for name in ("grey.png", "rgb.png")], tmp_path / "heat", 2)
    first, second = (np.asarray(Image.open(tmp_path / "heat" / name)) for name in ("grey.png", "rgb.png"))
    assert first.shape == (96, 96, 3)
    assert np.array_equal(first, second)


def test_a_folder_that_cannot_be_made_is_refused(parts: list[tuple[Path, Path]]) -> None:
    with pytest.raises(PadimEdgeError, match="cannot be made"):
        heat_maps(parts[0][0], parts, workers=2)
