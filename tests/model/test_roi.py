"""A region of interest in the graph: outside it nothing counts, inside it nothing is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_models import export_model, small

from padim_edge import sample
from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.evaluation.evaluate import evaluate
from padim_edge_artifact import PadimEdgeError, read_verified
from padim_edge_model.fused import map_stage
from padim_edge_runtime import Detector
from padim_edge_runtime.image_files import Decoded
from padim_edge_runtime.regions import to_image

SMALL = small("edge")
SIZE, GRID = (64, 64), (16, 16)
LEFT = np.zeros(SIZE, bool)
LEFT[:, :30] = True


def weave(count: int) -> Dataset:
    def item(i: int, kind: str, pixels: np.ndarray, mask: np.ndarray | None) -> Item:
        return Item(
            f"{kind} {i}", kind, lambda: Decoded(Image.fromarray(pixels), ()), mask if mask is None else lambda: mask
        )

    good = [item(i, GOOD, sample.draw_good("weave", i, size=96), None) for i in range(count)]
    test = [item(i, GOOD, sample.draw_good("weave", i, size=96, split="test"), None) for i in range(3)]
    test += [item(i, "hole", *sample.draw_defect("weave", "hole", i, size=96)) for i in range(6)]
    return Dataset("weave", tuple(good), tuple(test))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Detector, Detector]:
    """The same model with and without a region: its left part, drawn on an image."""
    folder = tmp_path_factory.mktemp("roi")
    mask = np.zeros((96, 96), np.uint8)
    mask[:, :45] = 255
    Image.fromarray(mask).save(folder / "roi.png")
    export_model(weave(20), folder / "part.onnx", SMALL, roi=folder / "roi.png")
    export_model(weave(20), folder / "whole.onnx", SMALL)
    return Detector.load(folder / "part.onnx", "cpu"), Detector.load(folder / "whole.onnx", "cpu")


@pytest.mark.parametrize("roi", [LEFT, np.eye(64, dtype=bool), np.ones(SIZE, bool)])
def test_patches_outside_the_region_do_not_reach_the_map(roi: np.ndarray) -> None:
    stage = map_stage(SIZE, GRID, 4.0, roi)
    distance = np.random.default_rng(0).uniform(5, 15, GRID)
    touched = roi.reshape(16, 4, 16, 4).any(axis=(1, 3))
    disturbed = np.where(touched, distance, 1e6)
    np.testing.assert_allclose(stage(disturbed), stage(distance), rtol=1e-9)
    assert (stage(distance)[~roi] == 0).all()


def test_a_constant_distance_stays_the_same_constant_inside() -> None:
    """The smoothing is normalised by the weight of the patches that are left."""
    found = map_stage(SIZE, GRID, 4.0, LEFT)(np.full(GRID, 7.0))
    np.testing.assert_allclose(found[LEFT], 7.0, rtol=1e-9)


def test_deep_inside_nothing_changes() -> None:
    distance = np.random.default_rng(1).uniform(5, 15, GRID)
    part, whole = map_stage(SIZE, GRID, 1.0, LEFT)(distance), map_stage(SIZE, GRID, 1.0)(distance)
    np.testing.assert_allclose(part[:, :18], whole[:, :18], rtol=1e-9)


def test_the_graph_is_the_map_stage_and_the_score_its_maximum(models: tuple[Detector, Detector]) -> None:
    part, whole = models
    frames = np.random.default_rng(2).integers(0, 256, (3, 64, 64, 3), dtype=np.uint8)
    result = part(frames)
    np.testing.assert_allclose(result.patch_distance, whole(frames).patch_distance, rtol=1e-5)
    stage = map_stage(SIZE, GRID, part.metadata.method.sigma, part.metadata.inspected)
    np.testing.assert_allclose(result.anomaly_map, stage(result.patch_distance.astype(np.float64)), rtol=1e-4)
    np.testing.assert_array_equal(result.score, result.anomaly_map.max(axis=(1, 2)))
    assert part.self_test().passed


def test_the_region_is_in_the_metadata_and_comes_back_in_the_images_pixels(models: tuple[Detector, Detector]) -> None:
    part, whole = models
    assert whole.metadata.roi is None
    assert whole.metadata.inspected.all()
    np.testing.assert_array_equal(part.metadata.inspected, LEFT)
    shown = to_image(np.ones(SIZE, np.float32), part.metadata.preprocessing, 96, 96, inspected=part.metadata.inspected)
    assert np.isnan(shown[:, 46:]).all()
    np.testing.assert_allclose(shown[:, :44], 1, rtol=1e-6)


def test_the_threshold_is_of_the_region_and_evaluation_counts_its_pixels_only(
    models: tuple[Detector, Detector],
) -> None:
    part, whole = models
    assert part.metadata.calibration.scores[-1] <= whole.metadata.calibration.scores[-1] * 1.05
    evaluation = evaluate(part, weave(2))
    holes = [sample.draw_defect("weave", "hole", i, size=96)[1] for i in range(6)]
    assert evaluation.pixel.regions == sum(bool(mask[:, :45].any()) for mask in holes)


@pytest.mark.parametrize(
    ("shape", "value", "sentence"),
    [
        ((96, 96), 0, "is empty"),
        ((96, 120), 255, "has 120x96 pixels, expected the aspect of the images, such as 96x96"),
    ],
)
def test_a_region_that_is_empty_or_of_another_aspect_is_refused(
    shape: tuple[int, int], value: int, sentence: str, tmp_path: Path
) -> None:
    Image.fromarray(np.full(shape, value, np.uint8)).save(tmp_path / "roi.png")
    with pytest.raises(PadimEdgeError, match=sentence):
        export_model(weave(3), tmp_path / "m.onnx", SMALL, roi=tmp_path / "roi.png")
    assert not (tmp_path / "m.onnx").exists()


def test_a_region_may_be_drawn_at_another_resolution_of_the_same_aspect(tmp_path: Path) -> None:
    Image.fromarray(np.full((480, 480), 255, np.uint8)).save(tmp_path / "roi.png")
    export_model(weave(3), tmp_path / "m.onnx", SMALL, roi=tmp_path / "roi.png")
    assert read_verified(tmp_path / "m.onnx").inspected.all()
