"""The detector: its answers, its refusals, and its self-test on machines that answer differently."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import drawn_images
import golden as files
import numpy as np
import pytest

from padim_edge_artifact import ArtifactError, DeviceError, ImageError, PadimEdgeError, read_metadata
from padim_edge_artifact.metadata import to_json
from padim_edge_model.calibration import p_value
from padim_edge_runtime import Detector
from padim_edge_runtime.regions import find_regions

BATCH = {"cpu": 1e-5}
"""Relative: a batch may be summed in another order than one image (float32); measured 4e-7 on x86."""
GPU_BATCH = 2e-3
"""The same on GPUs, where another algorithm may be chosen for another batch; an estimate from before TF32 was switched
off, not measured yet."""

MODELS = (files.WHOLE, files.CROPPED)


@pytest.fixture(scope="module", params=MODELS, ids=["one file", "data file"])
def detector(request: pytest.FixtureRequest, device: str) -> Detector:
    return Detector.load(request.param, device)


def with_session(detector: Detector, session: Any) -> Detector:
    return dataclasses.replace(detector, opened=dataclasses.replace(detector.opened, session=session))


def frames(detector: Detector, count: int) -> np.ndarray:
    """Good, defective and noise, in turn."""
    made = []
    for i in range(count):
        kind = (drawn_images.good(50 + i), drawn_images.defective(50 + i)[0], None)[i % 3]
        made.append(detector.prepare(kind) if kind else drawn_images.noise(i, detector.metadata.size))
    return np.stack(made)


def test_good_parts_are_good_and_defective_ones_are_anomalous(detector: Detector) -> None:
    """Parts that the model has not seen; at a false-alarm rate of 1 %, none of 20 good ones is far above."""
    good = detector(np.stack([detector.prepare(drawn_images.good(i)) for i in range(100, 120)]))
    bad = detector(np.stack([detector.prepare(drawn_images.defective(i)[0]) for i in range(100, 120)]))
    assert good.anomalous.sum() <= 2
    assert bad.anomalous.all()
    assert good.score.max() < bad.score.min()


def test_the_map_is_highest_where_the_defect_is(detector: Detector) -> None:
    image, (x, y, width, height) = drawn_images.defective(7, (120, 150))
    result = detector(detector.prepare(image))
    row, column = np.unravel_index(result.anomaly_map[0].argmax(), result.anomaly_map[0].shape)
    box = detector.metadata.preprocessing.judged_box(150, 120)
    rows, columns = detector.metadata.size
    at = (box.left + (column + 0.5) * box.width / columns, box.top + (row + 0.5) * box.height / rows)
    patch = box.width / detector.metadata.grid[1], box.height / detector.metadata.grid[0]
    assert x - patch[0] <= at[0] <= x + width + patch[0]
    assert y - patch[1] <= at[1] <= y + height + patch[1]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_shapes_and_types_of_a_result(detector: Detector, count: int, device: str) -> None:
    result = detector(frames(detector, count))
    (height, width), (h, w) = detector.metadata.size, detector.metadata.grid
    expected = {
        "score": ((count,), np.float32),
        "anomaly_map": ((count, height, width), np.float32),
        "patch_distance": ((count, h, w), np.float32),
        "p_value": ((count,), np.float64),
        "anomalous": ((count,), np.bool_),
    }
    assert {name: (getattr(result, name).shape, getattr(result, name).dtype.type) for name in expected} == expected
    assert result.threshold == detector.metadata.threshold
    assert result.device == detector.device == device


def test_the_score_is_the_maximum_of_the_map(detector: Detector) -> None:
    result = detector(frames(detector, 5))
    assert np.array_equal(result.score, result.anomaly_map.max(axis=(1, 2)))


def test_a_batch_is_judged_as_its_images_one_by_one(detector: Detector, device: str) -> None:
    batch = frames(detector, 6)
    together, alone = detector(batch), [detector(frame) for frame in batch]
    for name in ("score", "anomaly_map", "patch_distance", "p_value"):
        single = np.concatenate([getattr(result, name) for result in alone])
        tolerance = BATCH.get(device, GPU_BATCH)
        np.testing.assert_allclose(
            getattr(together, name), single, rtol=tolerance, atol=tolerance * np.abs(single).max(), err_msg=name
        )


def test_the_order_in_a_batch_does_not_matter(detector: Detector, device: str) -> None:
    batch = frames(detector, 6)
    np.testing.assert_allclose(detector(batch[::-1]).score, detector(batch).score[::-1], rtol=BATCH.get(device, 2e-3))


def test_the_same_image_gives_the_same_answer_again(detector: Detector, device: str) -> None:
    batch = frames(detector, 3)
    first, second = detector(batch), detector(batch)
    if device == "cpu":
        assert np.array_equal(first.anomaly_map, second.anomaly_map)
    np.testing.assert_allclose(first.score, second.score, rtol=GPU_BATCH)


def test_distances_are_not_negative_and_finite(detector: Detector) -> None:
    """Black, white and noise are as far from the training images as images get."""
    size = (*detector.metadata.size, 3)
    extremes = np.stack([np.zeros(size, np.uint8), np.full(size, 255, np.uint8), drawn_images.noise(0, size[:2])])
    result = detector(extremes)
    assert np.isfinite(result.anomaly_map).all()
    assert (result.patch_distance >= 0).all()
    assert result.anomalous.all()


def test_p_values_fall_as_scores_rise_and_stay_within_0_and_1(detector: Detector) -> None:
    result = detector(frames(detector, 12))
    order = result.score.argsort()
    assert (np.diff(result.p_value[order]) <= 0).all()
    assert (result.p_value > 0).all()
    assert (result.p_value <= 1).all()
    calibration = detector.metadata.calibration
    above_all = result.score > max(calibration.scores)
    assert above_all.any()
    assert (result.p_value[above_all] <= calibration.resolution).all()
    assert np.array_equal(result.p_value, p_value(calibration, result.score))


def test_another_threshold_changes_the_decision_and_nothing_else(detector: Detector) -> None:
    batch = frames(detector, 3)
    own = detector(batch)
    for limit, expected in ((0.0, True), (1e9, False)):
        result = detector(batch, threshold=limit)
        assert result.threshold == limit
        assert (result.anomalous == expected).all()
        assert np.array_equal(result.score, own.score)
        assert np.array_equal(result.p_value, own.p_value)


def test_a_score_at_the_threshold_is_good(detector: Detector) -> None:
    frame = frames(detector, 1)
    score = float(detector(frame).score[0])
    assert not detector(frame, threshold=score).anomalous[0]
    assert detector(frame, threshold=float(np.nextafter(score, 0))).anomalous[0]


def test_the_decision_and_the_regions_agree_to_the_last_digit(detector: Detector) -> None:
    """Score and map are float32, thresholds float64: none of the comparisons may round the threshold."""
    frame = frames(detector, 1)
    score = float(detector(frame).score[0])
    for limit in (np.nextafter(score, 0), score, np.nextafter(score, np.inf)):
        result = detector(frame, threshold=float(limit))
        regions = find_regions(result.anomaly_map[0], float(limit), detector.metadata.preprocessing, 100, 100)
        assert bool(result.anomalous[0]) == bool(regions) == (score > limit)


def test_an_image_in_any_memory_layout_is_judged_alike(detector: Detector) -> None:
    """Slices, channel swaps (BGR from OpenCV) and read-only views have other layouts."""
    batch = frames(detector, 2)
    swapped = np.ascontiguousarray(batch[..., ::-1])[..., ::-1]
    turned = np.asfortranarray(batch)
    frozen = batch.copy()
    frozen.flags.writeable = False
    for same in (swapped, turned, frozen):
        assert np.array_equal(detector(same).score, detector(batch).score)


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x.astype(np.float32),
        lambda x: x.astype(np.int8),
        lambda x: x[..., :1],
        lambda x: x[..., 0],
        lambda x: x.transpose(0, 3, 1, 2),
        lambda x: x[:, 1:],
        lambda x: x[:, :, :-1],
        lambda x: x[:0],
        lambda x: x[None],
        lambda x: x[0, 0],
        lambda x: np.uint8(0) * x.sum(),
    ],
    ids=["float", "signed", "one channel", "grey", "NCHW", "low", "narrow", "empty", "5 axes", "2 axes", "number"],
)
def test_what_is_no_batch_of_frames_is_refused_and_described(
    detector: Detector, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    wrong = np.asarray(change(frames(detector, 2)))
    height, width = detector.metadata.size
    with pytest.raises(ImageError) as caught:
        detector(wrong)
    assert f"{wrong.dtype} {wrong.shape}, expected uint8 (N, {height}, {width}, 3)" in str(caught.value)


def test_the_self_test_passes_where_the_model_was_made(detector: Detector) -> None:
    outcome = detector.self_test()
    assert outcome.passed
    assert 0 <= outcome.difference <= outcome.tolerance
    assert outcome.expected_score == detector.metadata.self_test.score


def _score(factor: float) -> Callable[[dict[str, Any]], None]:
    def change(metadata: dict[str, Any]) -> None:
        metadata["self_test"]["score"] *= factor

    return change


def _sample(factor: float) -> Callable[[dict[str, Any]], None]:
    def change(metadata: dict[str, Any]) -> None:
        metadata["self_test"]["map_samples"][7] *= factor

    return change


@pytest.mark.parametrize(
    ("change", "passed"),
    [(_score(1.01), False), (_score(0.99), False), (_score(1.0005), True), (_sample(1.01), False)],
    ids=["score too low", "score too high", "within the tolerance", "one map value"],
)
def test_the_self_test_fails_for_another_answer(
    golden: Path, device: str, tmp_path: Path, change: Callable[[dict[str, Any]], None], passed: bool
) -> None:
    outcome = Detector.load(files.rewrite(golden, tmp_path / "changed.onnx", change), device).self_test()
    assert outcome.passed == passed
    assert (outcome.difference > outcome.tolerance) == (not passed)


def test_the_self_test_fails_for_an_answer_that_is_no_number(detector: Detector) -> None:
    class NotANumber:
        def run(self, *arguments: Any) -> list[np.ndarray]:
            return [output * np.float32("nan") for output in detector.session.run(*arguments)]

    assert not with_session(detector, NotANumber()).self_test().passed


@pytest.mark.parametrize("output", [0, 1])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_an_answer_that_is_no_number_is_never_good(detector: Detector, output: int, value: str) -> None:
    class NotANumber:
        def run(self, *arguments: Any) -> list[np.ndarray]:
            outputs = [each.copy() for each in detector.session.run(*arguments)]
            outputs[output].flat[0] = float(value)
            return outputs

    with pytest.raises(DeviceError, match="gave distances that are no finite numbers; run padim-edge verify"):
        with_session(detector, NotANumber())(frames(detector, 1))


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), float("-inf"), -1e-9, np.float32("nan")])
def test_a_threshold_that_is_no_distance_is_refused(detector: Detector, threshold: float) -> None:
    """With NaN every image would be good."""
    images = frames(detector, 1)
    for call in (detector, detector.inspect):
        with pytest.raises(PadimEdgeError, match="expected a distance of 0 or more"):
            call(images if call is detector else images[0], threshold=threshold)
    assert detector(images, threshold=0).threshold == 0


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -1.0])
def test_a_model_whose_threshold_is_no_distance_is_refused(tmp_path: Path, device: str, threshold: float) -> None:
    model = files.rewrite(files.WHOLE, tmp_path / "a.onnx", lambda metadata: metadata.update(threshold=threshold))
    with pytest.raises(ArtifactError, match=r"a\.onnx cannot be used: .*threshold.*, expected"):
        Detector.load(model, device)


def test_a_device_that_fails_while_it_runs_is_named_in_one_line(detector: Detector) -> None:
    class Broken:
        def run(self, *_: Any) -> None:
            raise RuntimeError("out of memory\n  at layer 7")

    with pytest.raises(DeviceError, match=r"failed while it ran \(out of memory at layer 7\)"):
        with_session(detector, Broken())(frames(detector, 1))


def _grid(metadata: dict[str, Any]) -> None:
    metadata["grid"] = [8, 8]
    metadata["reference"].update(mean=base64.b64encode(bytes(64)).decode(), deviation="")


def _size(metadata: dict[str, Any]) -> None:
    metadata["method"]["preprocessing"]["resize"] = [65, 64]


@pytest.mark.parametrize("change", [_grid, _size])
def test_metadata_that_do_not_fit_the_graph_are_refused(
    golden: Path, device: str, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    with pytest.raises(ArtifactError, match=r"has the tensors .* expected .* export it again"):
        Detector.load(files.rewrite(golden, tmp_path / "changed.onnx", change), device)


@pytest.mark.parametrize("version", [1, 3])
def test_a_model_of_another_format_version_is_refused_with_what_to_do(
    golden: Path, device: str, tmp_path: Path, version: int
) -> None:
    other = files.rewrite(golden, tmp_path / "other.onnx", lambda metadata: metadata.update(format_version=version))
    sentence = rf"has format version {version}, this padim-edge reads version 2; .* export it again"
    with pytest.raises(ArtifactError, match=sentence):
        Detector.load(other, device)


def test_a_graph_that_onnxruntime_does_not_take_is_refused_in_one_line(golden: Path, tmp_path: Path) -> None:
    """Our metadata with a true digest, around an empty graph."""
    empty = tmp_path / "empty.onnx"
    empty.write_bytes(files.foreign(to_json(read_metadata(golden))))
    files.rewrite(empty, empty, lambda metadata: metadata)
    with pytest.raises(ArtifactError, match=r"onnxruntime .* cannot load .*empty\.onnx") as caught:
        Detector.load(empty, "cpu")
    assert "\n" not in str(caught.value)


def test_a_damaged_model_is_refused_before_onnxruntime_sees_it(golden: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.onnx"
    path.write_bytes(files.flipped(golden.read_bytes(), 40_000, 1))
    with pytest.raises(ArtifactError, match="damaged"):
        Detector.load(path)


@pytest.mark.parametrize("model", MODELS, ids=["one file", "data file"])
def test_a_model_is_loaded_from_any_folder_by_text_or_path(model: Path, device: str, tmp_path: Path) -> None:
    folder = tmp_path / "with space" / "ünï 图"
    folder.mkdir(parents=True)
    moved = files.copy(model, folder)
    assert Detector.load(str(moved), device).self_test().passed
    assert Detector.load(moved, device).self_test().passed


def test_the_number_of_threads_does_not_change_the_answer(golden: Path, device: str) -> None:
    batch = frames(Detector.load(golden, device), 3)
    one, two = (Detector.load(golden, device, threads=threads)(batch) for threads in (1, 2))
    np.testing.assert_allclose(one.anomaly_map, two.anomaly_map, rtol=BATCH.get(device, GPU_BATCH), atol=1e-5)


def test_prepare_takes_paths_and_text_and_images(detector: Detector, tmp_path: Path) -> None:
    image = drawn_images.good(3)
    image.save(tmp_path / "a.png")
    expected = detector.prepare(image)
    assert expected.shape == (*detector.metadata.size, 3)
    assert np.array_equal(detector.prepare(tmp_path / "a.png"), expected)
    assert np.array_equal(detector.prepare(str(tmp_path / "a.png")), expected)
