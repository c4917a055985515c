"""A model that takes BGR sees what the same model sees in RGB: bit for bit, from fit to update, and nobody swaps it."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path

import golden as files
import numpy as np
import onnx
import onnxruntime
import pytest
from commands import run
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from small_models import dataset, export_model, exported, judged, rounded_to_nearest, small, weave

from padim_edge import evaluate, rehearse
from padim_edge.presets import preset
from padim_edge_artifact import ArtifactError, ImageError, PadimEdgeError, Preprocessing, names, read_metadata
from padim_edge_artifact.kept import read_kept, write_kept
from padim_edge_artifact.method import Method, Precision
from padim_edge_export import camera, channel_order
from padim_edge_learn.merge import merge_files
from padim_edge_learn.recalibrate import HeldOutChoice, recalibrate
from padim_edge_learn.set_threshold import by_hand, store
from padim_edge_learn.update import UpdateFiles, update
from padim_edge_runtime import Detector
from padim_edge_runtime.channel_order import feed, ordered

COLORS = ("rgb", "bgr")
COUNT = 14

Frames = np.ndarray


def with_color(method: Method, color: str) -> Method:
    return method.changed(preprocessing=dataclasses.replace(method.preprocessing, color=color))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("colors")


@pytest.fixture(scope="module")
def pair(folder: Path) -> dict[str, Path]:
    """Two models of the same images, one for each order, with their statistics beside them."""
    for color in COLORS:
        model = export_model(dataset(weave(COUNT)), folder / f"{color}.onnx", with_color(small("edge"), color))
        write_kept(folder / f"{color}.npz", model.kept)
    return {color: folder / f"{color}.onnx" for color in COLORS}


@pytest.fixture(scope="module")
def good(folder: Path) -> list[Path]:
    """Good images as files, those of the fit first."""
    (folder / "good").mkdir()
    for i, image in enumerate(weave(24)):
        image.save(folder / "good" / f"{i:03}.png")
    return sorted((folder / "good").iterdir())


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("edge", Precision()),
        *(
            pytest.param(name, precision, marks=pytest.mark.slow)
            for name in ("edge", "auto", "free", "paper")
            for precision in (Precision(), Precision("fp16"), Precision("int8"), Precision("int8", "tensorrt"))
            if (name, precision) != ("edge", Precision())
        ),
    ],
    ids=str,
)
def test_the_same_fit_has_the_same_numbers_bit_for_bit(name: str, precision: Precision, tmp_path: Path) -> None:
    """Also where planted defects choose the weights of two kinds of distance."""
    found = []
    for color in COLORS:
        with rounded_to_nearest():
            method = with_color(small(name, precision=precision), color)
            metadata = export_model(dataset(weave(COUNT)), tmp_path / f"{color}.onnx", method).metadata
        detector = Detector.load(tmp_path / f"{color}.onnx", "cpu")
        assert detector.self_test().passed
        inspected = [detector.inspect(image) for image in judged()]
        maps = np.stack([each.view.frame_map for each in inspected])
        learned = (metadata.threshold, metadata.calibration, metadata.reference, metadata.fingerprints)
        found.append((learned, metadata.combination, [each.score for each in inspected], maps.tobytes()))
        assert metadata.preprocessing.color == color
    assert found[0] == found[1]


@cache
def swapping(with_camera: bool) -> tuple[onnxruntime.InferenceSession, ...]:
    """The embedding graph of RGB, and the one that takes BGR."""
    method = small("edge")
    frame = dataclasses.replace(method.preprocessing, camera=(90, 75) if with_camera else None)
    graph = exported(method)
    sessions = []
    for color in COLORS:
        taken = dataclasses.replace(frame, color=color)
        made = camera.baked(channel_order.baked(graph, taken), taken)
        onnx.checker.check_model(made.model, full_check=True)
        sessions.append(onnxruntime.InferenceSession(made.model.SerializeToString()))
    return tuple(sessions)


@settings(deadline=None, max_examples=15)
@given(st.booleans(), st.data())
def test_the_graph_takes_the_reversed_pixels_alike(with_camera: bool, data: st.DataObject) -> None:
    rgb, bgr = swapping(with_camera)
    size = (90, 75) if with_camera else (64, 64)
    seed = data.draw(st.integers(0, 2**32 - 1))
    frames = np.random.default_rng(seed).integers(0, 256, (2, *size, 3), np.uint8)
    assert [each.name for each in bgr.get_inputs()] == [names.IMAGE_BGR]
    for one, other in zip(rgb.run(None, feed(rgb, frames)), bgr.run(None, feed(bgr, frames)), strict=True):
        np.testing.assert_array_equal(one, other)
    for one, other in zip(
        rgb.run(None, {names.IMAGE: frames}),
        bgr.run(None, {names.IMAGE_BGR: np.ascontiguousarray(frames[..., ::-1])}),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_graph_of_rgb_is_left_alone() -> None:
    graph = exported(small("edge"))
    assert channel_order.baked(graph, small("edge").preprocessing) is graph


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5), st.just(3))))
def test_turning_the_channels_round_twice_changes_nothing(frames: Frames) -> None:
    assert ordered(frames, "rgb") is frames
    turned = ordered(frames, "bgr")
    assert turned.flags.c_contiguous
    np.testing.assert_array_equal(turned, frames[..., ::-1])
    np.testing.assert_array_equal(ordered(turned, "bgr"), frames)


def test_inspecting_takes_care_of_the_order_and_calling_takes_the_models_own(pair: dict[str, Path]) -> None:
    rgb, bgr = (Detector.load(pair[color], "cpu") for color in COLORS)
    for image in judged():
        pixels = np.asarray(image)
        expected = rgb.inspect(image)
        for found in (bgr.inspect(image), bgr.inspect(pixels), bgr.inspect(pixels[..., ::-1].copy(), color="bgr")):
            assert (found.score, found.warnings, found.regions) == (expected.score, expected.warnings, expected.regions)
        (many,) = bgr.inspect_many([image])
        assert many.score == expected.score  # type: ignore[union-attr]
        frame = bgr.prepare(image)
        np.testing.assert_array_equal(frame, rgb.prepare(image)[..., ::-1])
        np.testing.assert_array_equal(bgr.prepare(pixels[..., ::-1].copy(), color="bgr"), frame)
        assert bgr(frame).score[0] == expected.score
        assert bgr(frame, color="bgr").score[0] == expected.score
        assert bgr(rgb.prepare(image), color="rgb").score[0] == expected.score
        assert rgb(frame, color="bgr").score[0] == expected.score
        assert bgr(rgb.prepare(image)).score[0] != expected.score
    with pytest.raises(PadimEdgeError, match="expected 'rgb' or 'bgr'"):
        bgr(frame, color="grb")
    with pytest.raises(ImageError, match=r"expected uint8 \(N, 64, 64, 3\) in BGR"):
        bgr(frame.astype(np.float32))
    with pytest.raises(ImageError, match="in BGR; make it with"):
        bgr([frame])  # type: ignore[arg-type]


def test_who_feeds_rgb_by_name_is_refused(pair: dict[str, Path]) -> None:
    session = onnxruntime.InferenceSession(pair["bgr"], providers=["CPUExecutionProvider"])
    with pytest.raises(ValueError, match="image_bgr"):
        session.run(None, {names.IMAGE: np.zeros((1, 64, 64, 3), np.uint8)})


@pytest.mark.parametrize("color", COLORS)
def test_metadata_that_name_another_order_than_the_graph_are_refused(
    pair: dict[str, Path], tmp_path: Path, color: str
) -> None:
    """A reader that does not know the field takes every model for RGB."""
    other = COLORS[1 - COLORS.index(color)]
    model = files.rewrite(
        pair[color], tmp_path / "other.onnx", lambda metadata: metadata["method"]["preprocessing"].update(color=other)
    )
    with pytest.raises(ArtifactError, match="has the tensors"):
        Detector.load(model, "cpu")
    without = files.rewrite(
        pair["bgr"], tmp_path / "old.onnx", lambda metadata: metadata["method"]["preprocessing"].pop("color")
    )
    with pytest.raises(ArtifactError, match="has the tensors"):
        Detector.load(without, "cpu")


def test_a_model_from_before_the_field_takes_rgb() -> None:
    assert "color" not in json.loads(files.container._properties(files.WHOLE)["padim_edge"])["method"]["preprocessing"]
    assert read_metadata(files.WHOLE).preprocessing.color == "rgb"


def test_statistics_hold_their_order_against_their_graph(folder: Path, pair: dict[str, Path], tmp_path: Path) -> None:
    del pair
    kept = read_kept(folder / "bgr.npz")
    assert kept.recipe.method.preprocessing.color == "bgr"
    method = with_color(kept.recipe.method, "rgb")
    write_kept(
        tmp_path / "wrong.npz", dataclasses.replace(kept, recipe=dataclasses.replace(kept.recipe, method=method))
    )
    with pytest.raises(ArtifactError, match="other inputs or outputs"):
        read_kept(tmp_path / "wrong.npz")
    with pytest.raises(PadimEdgeError):
        merge_files([folder / "rgb.npz", folder / "bgr.npz"], tmp_path / "both.npz")


def test_update_recalibrate_and_threshold_keep_the_order(
    pair: dict[str, Path], good: list[Path], tmp_path: Path
) -> None:
    found = []
    for color, model in pair.items():
        new = UpdateFiles(model, model.with_suffix(".npz"), tmp_path / f"{color}.onnx", tmp_path / f"{color}.npz")
        update(new, good[COUNT:20])
        updated = read_metadata(new.output)
        set_ = store(new.output, by_hand(updated, 7.5), tmp_path / f"{color}-set.onnx")
        choice = HeldOutChoice(take=("all",), output=tmp_path / f"{color}-again.onnx")
        again = recalibrate(new.output, good[20:], choice, device="cpu").metadata
        assert {each.preprocessing.color for each in (updated, set_, again)} == {color}
        scores = [Detector.load(new.output, "cpu").inspect(image).score for image in judged()]
        found.append((updated.threshold, updated.fingerprints, again.threshold, again.calibration, scores))
    assert found[0] == found[1]


@pytest.mark.slow
def test_evaluating_and_rehearsing_give_the_same_answers(
    pair: dict[str, Path], good: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "data" / "part" / "train").mkdir(parents=True)
    (tmp_path / "data" / "part" / "train" / "good").symlink_to(good[0].parent)
    for kind, some in (("good", judged()[:3]), ("hole", judged()[3:])):
        (tmp_path / "data" / "part" / "test" / kind).mkdir(parents=True)
        for i, image in enumerate(some):
            image.save(tmp_path / "data" / "part" / "test" / kind / f"{i}.png")
    evaluations = [evaluate(pair[color], tmp_path / "data", progress=False) for color in COLORS]
    scores = [[each.score for each in found.scored] for found in evaluations]
    assert scores[0] == scores[1]
    rehearsals = [rehearse(pair[color], good[COUNT:], progress=False) for color in COLORS]
    trials = [[(each.score, each.contrast) for each in found.trials] for found in rehearsals]
    assert trials[0] == trials[1]


def test_the_command_exports_and_inspect_says_the_order(good: list[Path], tmp_path: Path) -> None:
    common = ("export", "--data", good[0].parent, "--backbone", "builtin", "--size", "64", "--fast")
    (tmp_path / "repository").mkdir()
    stdout, _ = run(
        *common, "--color", "BGR", "--output", tmp_path / "b.onnx", "--triton", tmp_path / "repository", "--json"
    )
    told = json.loads(stdout)["triton"]
    assert (told["name"], told["version"], told["device"]) == ("b", 1, "cpu")
    config = (tmp_path / "repository" / "b" / "config.pbtxt").read_text()
    assert config.startswith("# BGR pixels in")
    assert 'name: "image_bgr"' in config
    stdout, _ = run("inspect", tmp_path / "b.onnx")
    assert "uint8 BGR (N, 64, 64, 3)" in stdout
    _, stderr = run(*common, "--color", "grb", "--output", tmp_path / "c.onnx", code=1)
    assert "--color is 'grb', expected rgb, or bgr" in stderr
    _, stderr = run(*common, "--output", tmp_path / "c.onnx", "--triton", tmp_path / "nowhere", code=1)
    assert "is no folder" in stderr
    assert not (tmp_path / "c.onnx").exists(), "refused before the work"


@pytest.mark.parametrize("name", ["edge", "auto"])
def test_the_option_reaches_every_kind_of_distance(name: str) -> None:
    method = preset(name, backbone="builtin", color="bgr")
    assert {head.preprocessing.color for head in method.heads} == {"bgr"}
    assert method.preprocessing.on_host.color == "rgb"


def test_a_color_that_is_none_is_refused() -> None:
    with pytest.raises(ArtifactError, match="color 'grb'"):
        Preprocessing((8, 8), color="grb")
