"""Anomaly maps at the size of the image: as arrays, as files, and by the command."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import drawn_images
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from padim_edge_artifact import PadimEdgeError, Preprocessing
from padim_edge_runtime import Detector, float_tiff, inspection
from padim_edge_runtime.heatmaps import anomaly_maps
from padim_edge_runtime.regions import to_image

ROUNDING = 1e-5
"""Relative: places of rows are sums in another order."""

ON_THE_EDGE = 1e-6
"""Pixels: a row whose centre is this near to the edge of the judged part may fall on either side of it."""

SIZES = [(60, 80), (96, 96), (201, 33)]


@pytest.fixture
def detector(golden: Path) -> Detector:
    return Detector.load(golden, "cpu", threads=1)


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.mode == "F"
        return np.asarray(image)


@settings(deadline=None, max_examples=60)
@given(st.integers(8, 90), st.integers(8, 90), st.integers(1, 40), st.booleans(), st.booleans())
def test_rows_of_the_map_are_those_of_the_whole(width: int, height: int, step: int, crop: bool, roi: bool) -> None:
    preprocessing = Preprocessing((24, 20), (16, 12) if crop else None)
    draw = np.random.default_rng(width * height)
    anomaly_map = draw.gamma(2, 3, preprocessing.size).astype(np.float32)
    inspected = draw.random(preprocessing.size) < 0.7 if roi else None
    whole = to_image(anomaly_map, preprocessing, width, height, inspected=inspected)
    rows = [
        to_image(anomaly_map, preprocessing, width, height, inspected=inspected, rows=(at, min(at + step, height)))
        for at in range(0, height, step)
    ]
    box, centres = preprocessing.judged_box(width, height), np.arange(height) + 0.5
    decided = np.minimum(np.abs(centres - box.top), np.abs(centres - box.bottom)) > ON_THE_EDGE
    np.testing.assert_allclose(np.concatenate(rows)[decided], whole[decided], rtol=ROUNDING)  # NaN equals NaN


@settings(deadline=None, max_examples=30)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 20), st.integers(1, 20))), st.integers(1, 20))
def test_a_file_holds_every_number_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, map_: np.ndarray, step: int
) -> None:
    path = tmp_path_factory.mktemp("map") / "a.tif"
    float_tiff.write(path, (len(map_), map_.shape[1]), (map_[at : at + step] for at in range(0, len(map_), step)))
    np.testing.assert_array_equal(read(path), map_)


@pytest.mark.parametrize("size", SIZES)
def test_the_file_is_the_map_in_the_images_own_size(
    detector: Detector, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    monkeypatch.setattr(inspection, "_BLOCK", 700)  # some rows at a time
    found = detector.inspect(drawn_images.defective(0, size)[0])
    found.save_map(tmp_path / "a.tif")
    assert found.anomaly_map.shape == size
    np.testing.assert_allclose(read(tmp_path / "a.tif"), found.anomaly_map, rtol=ROUNDING)
    highest = np.nanmax(found.anomaly_map)
    assert 0.9 * found.score < highest <= found.score * (1 + ROUNDING)


def test_what_the_model_did_not_see_is_not_a_number(golden_data: Path, tmp_path: Path) -> None:
    """Here the model crops the border away."""
    found = Detector.load(golden_data, "cpu").inspect(drawn_images.good(0, (90, 120)))
    found.save_map(tmp_path / "a.tif")
    unseen = np.isnan(read(tmp_path / "a.tif"))
    box = found.view.metadata.preprocessing.judged_box(120, 90)
    assert unseen[0].all()
    assert unseen[:, 0].all()
    assert not unseen[int(box.top) + 1 : int(box.bottom) - 1, int(box.left) + 1 : int(box.right) - 1].any()


def test_a_large_map_is_written_in_little_memory(detector: Detector, tmp_path: Path) -> None:
    found = detector.inspect(np.zeros((3000, 4000), np.uint8))
    tracemalloc.start()
    found.save_map(tmp_path / "a.tif")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "a.tif").stat().st_size > 4 * 3000 * 4000
    assert peak < 4 * 3000 * 4000 / 3


def test_a_map_that_cannot_be_written_is_refused(detector: Detector, tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="could not be written"):
        detector.inspect(drawn_images.good(0)).save_map(tmp_path / "none" / "a.tif")


def test_each_file_of_a_folder_gets_its_map(detector: Detector, tmp_path: Path) -> None:
    files = []
    for number, name in enumerate(("a.png", "b.png", "a.bmp")):
        drawn_images.good(number, (60 + number, 80)).save(tmp_path / name)
        files.append((tmp_path / name, Path(name)))
    hook = anomaly_maps(tmp_path / "maps", files)
    list(detector.inspect_many([path for path, _ in files], hook=hook))
    for (path, _), name in zip(files, ("a.tif", "b.tif", "a-2.tif"), strict=True):
        np.testing.assert_allclose(read(tmp_path / "maps" / name), detector.inspect(path).anomaly_map, rtol=ROUNDING)
