"""A model that takes the camera's raw frames sees the same pixels as one behind the host's resize."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

import drawn_images
import numpy as np
import onnx
import pytest
import small_models
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from padim_edge_artifact import PadimEdgeError, Preprocessing
from padim_edge_artifact.kept import write_kept
from padim_edge_artifact.metadata import Reduction
from padim_edge_artifact.method import Precision
from padim_edge_artifact.preprocessing import INTERPOLATIONS
from padim_edge_export import camera
from padim_edge_learn.update import update, update_files
from padim_edge_model import grids, tensorrt_rules
from padim_edge_model.graph import EmbeddingGraph
from padim_edge_runtime import Detector, image_files
from padim_edge_runtime.devices.providers import open_session

SIZES = st.tuples(st.integers(8, 150), st.integers(8, 150))
FEW = st.tuples(st.integers(8, 40), st.integers(8, 40))
"""Sizes that are far smaller than most of `SIZES`, so that blocks of pixels are averaged."""


def nothing_but_pixels(size: tuple[int, int], kind: int = TensorProto.FLOAT) -> EmbeddingGraph:
    """A graph whose output is its input."""
    nodes = [helper.make_node("Identity", ["image"], ["pixels"])]
    if kind == TensorProto.FLOAT:
        nodes = [
            helper.make_node("Cast", ["image"], ["cast"], to=kind),
            helper.make_node("Identity", ["cast"], ["pixels"]),
        ]
    shape = ["N", *size, 3]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info("pixels", kind, shape)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    return EmbeddingGraph(model, (), Reduction(None, None), size)


def seen(preprocessing: Preprocessing, frames: np.ndarray, kind: int = TensorProto.FLOAT) -> np.ndarray:
    """Pixels that a graph for raw frames computes on."""
    baked = camera.baked(nothing_but_pixels(preprocessing.size, kind), preprocessing)
    onnx.checker.check_model(baked.model, full_check=True)
    assert baked.size == preprocessing.camera
    return open_session(baked.model.SerializeToString(), "cpu").session.run(None, {"image": frames})[0]


def host(preprocessing: Preprocessing, frame: np.ndarray) -> np.ndarray:
    return image_files.prepare(Image.fromarray(frame), preprocessing.on_host)


@st.composite
def ways(draw: st.DrawFn) -> Preprocessing:
    resize = draw(SIZES | FEW)
    crop = draw(st.none() | st.tuples(st.integers(1, resize[0]), st.integers(1, resize[1])))
    return Preprocessing(resize, crop, draw(st.sampled_from(INTERPOLATIONS)), draw(SIZES))


@settings(max_examples=60, deadline=None)
@given(ways(), st.integers(0, 99))
def test_the_graph_resizes_and_crops_as_the_host_does(preprocessing: Preprocessing, seed: int) -> None:
    frames = np.stack([drawn_images.noise(seed + i, preprocessing.camera) for i in range(2)])
    found = seen(preprocessing, frames)
    wanted = np.stack([host(preprocessing, frame) for frame in frames]).astype(np.float32)
    assert found.shape == wanted.shape
    np.testing.assert_array_equal(found, wanted)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("sides", [(1080, 224), (1920, 224), (64, 64), (30, 100), (7, 9)])
def test_every_row_of_the_resize_is_a_mean(sides: tuple[int, int], interpolation: str) -> None:
    matrix = grids.antialiased(sides[1], sides[0], interpolation) / 2**grids.FIXED_POINT
    np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(matrix, matrix[::-1, ::-1], atol=1e-6)
    if sides[0] == sides[1]:
        np.testing.assert_array_equal(matrix, np.eye(sides[0]))


def test_frames_that_fit_already_are_cut_and_not_touched() -> None:
    preprocessing = Preprocessing((72, 80), (64, 64), camera=(72, 80))
    frame = drawn_images.noise(1, (72, 80))
    np.testing.assert_array_equal(seen(preprocessing, frame[None])[0], host(preprocessing, frame))


def test_a_graph_that_reads_whole_pixels_gets_whole_pixels() -> None:
    """int8 graphs for the CPU read whole pixels."""
    preprocessing = Preprocessing((40, 40), camera=(90, 70))
    found = seen(preprocessing, drawn_images.noise(2, (90, 70))[None], TensorProto.UINT8)
    assert found.dtype == np.uint8


def test_without_a_camera_nothing_changes() -> None:
    graph = nothing_but_pixels((8, 8))
    assert camera.baked(graph, Preprocessing((8, 8))) is graph


CAMERA = (150, 131)
"""More than twice the models' frame, and an odd side, so that the border cuts blocks where they are averaged."""


@cache
def shots(count: int, first: int = 0) -> list[Image.Image]:
    return [drawn_images.good(first + i, CAMERA) for i in range(count)]


def built(folder: Path, precision: Precision, preset: str = "edge", *, raw: bool = True) -> Path:
    """A model for these frames, which resizes them by itself or leaves that to the host."""
    chosen = small_models.small(preset, precision=precision)
    method = dataclasses.replace(
        chosen, preprocessing=dataclasses.replace(chosen.preprocessing, camera=CAMERA if raw else None)
    )
    path = folder / f"{'raw' if raw else 'host'}.onnx"
    with small_models.rounded_to_nearest():  # a resize does not depend on the weights behind it
        model = small_models.export_model(small_models.dataset(shots(30)), path, method)
    write_kept(path.with_suffix(".npz"), model.kept)
    return path


@pytest.mark.parametrize("preset", ["edge", "paper"])  # with binning and without
@pytest.mark.parametrize(
    "precision", [Precision(), Precision("fp16"), Precision("int8"), Precision("int8", "tensorrt")], ids=str
)
def test_raw_frames_score_as_resized_ones(precision: Precision, preset: str, tmp_path: Path) -> None:
    raw, resized = (Detector.load(built(tmp_path, precision, preset, raw=raw), "cpu") for raw in (True, False))
    assert raw.metadata.input_size == CAMERA
    assert raw.metadata.size == resized.metadata.size == (64, 64)
    assert raw.self_test().passed
    assert raw.metadata.preprocessing.on_host.bins(*CAMERA) == ((2, 2) if preset == "edge" else (1, 1))
    judged = [*shots(3, first=50), drawn_images.defective(60, CAMERA)[0]]
    for image in judged:
        a, b = (each(each.prepare(image)) for each in (raw, resized))
        np.testing.assert_array_equal(a.anomaly_map, b.anomaly_map)
        assert a.anomalous == b.anomalous
        # Raw pixels need no preparation by the host.
        np.testing.assert_array_equal(raw(np.asarray(image)).score, a.score)
    assert raw.metadata.threshold == resized.metadata.threshold


@pytest.mark.parametrize(
    "precision", [Precision("fp32", "tensorrt"), Precision("fp16", "tensorrt"), Precision("int8", "tensorrt")], ids=str
)
def test_tensorrt_takes_it(precision: Precision, tmp_path: Path) -> None:
    model = onnx.load(built(tmp_path, precision))
    assert tensorrt_rules.check(model) == ()
    assert model.graph.node[0].op_type == "Cast"


def test_regions_lie_in_the_image_and_nothing_seems_moved(tmp_path: Path) -> None:
    detector = Detector.load(built(tmp_path, Precision()), "cpu")
    image, (left, top, width, height) = drawn_images.defective(61, CAMERA)
    image.resize((2 * CAMERA[1], 2 * CAMERA[0])).save(tmp_path / "large.png")
    found = detector.inspect(tmp_path / "large.png")
    assert found.anomalous
    assert found.warnings == ()
    x, y, w, h = max(found.regions, key=lambda region: region.peak).box
    assert x < 2 * (left + width / 2) < x + w
    assert y < 2 * (top + height / 2) < y + h


def test_other_frames_are_refused_and_the_size_is_named(tmp_path: Path) -> None:
    detector = Detector.load(built(tmp_path, Precision()), "cpu")
    with pytest.raises(PadimEdgeError, match=r"expected uint8 \(N, 150, 131, 3\)"):
        detector(np.zeros((64, 64, 3), np.uint8))


def test_an_update_goes_on_taking_raw_frames(tmp_path: Path) -> None:
    model = built(tmp_path, Precision())
    files = []
    for i, image in enumerate(shots(10, first=100)):
        files.append(tmp_path / f"{i}.png")
        image.save(files[-1])
    update(update_files(model, output=tmp_path / "next.onnx"), files, take=["all"])  # drawn parts are much alike
    after = Detector.load(tmp_path / "next.onnx", "cpu")
    assert after.metadata.input_size == CAMERA
    assert after.metadata.images == 40
    assert after(np.asarray(drawn_images.defective(62, CAMERA)[0])).anomalous
