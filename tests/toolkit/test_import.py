"""Imported PaDiMs of anomalib: the same scores, the same labels, and what cannot be carried over is said.

No anomalib is needed: the checkpoints are written here, in the form in which anomalib 2.7 writes them.
`benchmarks/anomalib_import.py` compares with anomalib itself.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from import_checkpoints import FRAME, checkpoint, network, spec, written
from PIL import Image
from safetensors.torch import load_file
from small_models import weights_of
from typer.testing import CliRunner

from padim_edge.cli.import_ import import_
from padim_edge.datasets import from_images
from padim_edge.importing import Choice, import_anomalib, run
from padim_edge.importing.checkpoint import decision_of, read_checkpoint
from padim_edge.importing.graph import Built, _inverted, build, map_stage
from padim_edge.importing.parity import Certificate, Reference
from padim_edge.importing.source import RIDGE, Padim
from padim_edge.importing.transform import frame_of
from padim_edge_artifact import PadimEdgeError, read_metadata
from padim_edge_runtime import Detector

CLOSE = 1e-4
"""Largest relative difference of two float32 computations of the same score."""

IMAGES = 14


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Images of the frame's size: one drawn pattern under some noise."""
    return drawn(0, IMAGES)


def drawn(seed: int, count: int, size: tuple[int, int] = FRAME) -> np.ndarray:
    generator = np.random.default_rng(seed)
    rows, columns = np.mgrid[: size[0], : size[1]]
    waves = 128 + 60 * np.sin(rows / 5) * np.cos(columns / 7)
    noise = generator.normal(0, 12, (count, *size, 3)) + generator.normal(0, 8, (count, 1, 1, 3))
    return (waves[..., None] + noise).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def file(frames: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("anomalib") / "model.ckpt", checkpoint(frames))


@pytest.fixture(scope="module", autouse=True)
def built_once() -> Iterator[None]:
    """Build the graph of each file once; building takes seconds."""
    known: dict[str, Built] = {}
    with pytest.MonkeyPatch.context() as patch:

        def once(source: Padim, name: str) -> Built:
            if source.digest not in known:
                known[source.digest] = build(source, name)
            return known[source.digest]

        patch.setattr(run.graphs, "build", once)
        yield


@pytest.fixture(scope="module")
def model(file: Path, frames: np.ndarray) -> Path:
    output = file.with_name("part.onnx")
    compared = from_images([*frames[:3], *drawn(5, 2, (96, 80))]).good
    made = import_anomalib(file, output, Choice(class_name="part", compared=compared), progress=False)
    assert made.path == output
    return output


def test_an_imported_model_gives_anomalibs_scores_at_anomalibs_threshold(model: Path, file: Path) -> None:
    source, detector = read_checkpoint(file), Detector.load(model, "cpu")
    assert detector.self_test().passed
    assert source.decision is not None
    assert detector.metadata.threshold == pytest.approx(source.decision.raw)
    assert "anomalib was validated with" in detector.metadata.threshold_rule
    reference = Reference(source)
    for image in drawn(7, 3):
        assert detector(image[None]).score[0] == pytest.approx(reference.of_frame(image), rel=CLOSE)


def test_the_python_block_of_the_page_runs(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    import pages

    shutil.copy(file, tmp_path / "model.ckpt")
    monkeypatch.chdir(tmp_path)
    (block,) = pages.blocks(pages.text_of(pages.DOCS / "import.md"), "python")
    exec(compile(block, "import.md", "exec"), {})
    assert (tmp_path / "bottle.onnx").is_file()


def test_the_certificate_lies_beside_the_model(model: Path, file: Path) -> None:
    told = json.loads(model.with_name("part.parity.json").read_text())
    assert told["passed"]
    assert told["source"] == file.name
    assert told["model_digest"] == read_metadata(model).digests.model
    assert len(told["images"]) == 5
    assert max(abs(each["score"] / each["same_frame"] - 1) for each in told["images"]) <= CLOSE
    assert any("tiles" in note for note in told["notes"])
    assert str(file.parent) not in json.dumps(told)


def test_nothing_is_written_where_scores_differ(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reference, "of_frame", lambda *_: 1.0)
    with pytest.raises(PadimEdgeError, match=r"answers otherwise than model\.ckpt"):
        import_anomalib(file, tmp_path / "a.onnx", progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("size", [(70, 58), (64, 96)])
def test_frames_of_other_sizes_are_imported_too(size: tuple[int, int], tmp_path: Path) -> None:
    path = written(tmp_path / "a.ckpt", checkpoint(drawn(1, 10, size), size=size))
    made = import_anomalib(path, tmp_path / "a.onnx", progress=False)
    assert made.certificate.difference <= CLOSE
    assert made.metadata.size == size


def test_good_images_of_the_fit_are_recognised(file: Path, frames: np.ndarray, tmp_path: Path) -> None:
    good = from_images(list(frames)).good
    made = import_anomalib(file, tmp_path / "a.onnx", Choice(good=good), progress=False)
    assert (made.metadata.images, made.metadata.calibration.images) == (IMAGES, IMAGES)
    assert "each judged as if it and its repeats were not" in made.metadata.threshold_rule
    detector = Detector.load(tmp_path / "a.onnx", "cpu")
    inside = [float(detector(frame[None]).score[0]) for frame in frames]
    assert np.median(made.metadata.calibration.scores) > np.median(inside)


def test_other_good_images_are_judged_as_they_are(file: Path, tmp_path: Path) -> None:
    others = drawn(11, 8)
    made = import_anomalib(file, tmp_path / "a.onnx", Choice(good=from_images(list(others)).good), progress=False)
    detector = Detector.load(tmp_path / "a.onnx", "cpu")
    scores = sorted(float(detector(frame[None]).score[0]) for frame in others)
    assert made.metadata.calibration.scores == pytest.approx(scores, rel=CLOSE)
    assert made.metadata.threshold_rule == "scores of good images that it was not fitted on"


def test_the_map_stage_is_pytorchs(file: Path) -> None:
    source = read_checkpoint(file)
    distance = np.random.default_rng(0).uniform(0, 9, (1, 1, 16, 16)).astype(np.float32)
    large = torch.nn.functional.interpolate(torch.from_numpy(distance), FRAME, mode="bilinear", align_corners=False)
    padded = torch.nn.functional.pad(large, (16, 16, 16, 16), mode="reflect")
    expected = torch.nn.functional.conv2d(padded, torch.from_numpy(source.kernel)[None, None])[0, 0].numpy()
    assert map_stage(source, (16, 16))(distance[0, 0]) == pytest.approx(expected, rel=1e-5)
    assert source.sigma == 4.0


@pytest.mark.parametrize("sensitivity", [0.1, 0.5, 0.8])
def test_the_raw_threshold_labels_as_the_normalised_one(sensitivity: float) -> None:
    post = {"image_min": 3.0, "image_max": 11.0, "_image_threshold": 7.0, "image_sensitivity": sensitivity}
    decision, _ = decision_of(post)
    assert decision is not None
    for score in np.linspace(0, 20, 997):
        if abs(score - decision.raw) > 1e-5:
            assert decision.anomalous(float(score)) == (score > decision.raw)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"image_min": float("nan")}, "never validated"),
        ({"enable_normalization": False}, "switched off"),
        ({"image_sensitivity": 0.0}, "no usable number"),
    ],
)
def test_without_a_usable_threshold_good_images_are_asked_for(changed: dict[str, Any], why: str) -> None:
    found, told = decision_of({"image_min": 3.0, "image_max": 9.0, "_image_threshold": 5.0} | changed)
    assert found is None
    assert why in told


def test_a_model_that_was_never_validated_needs_good_images(frames: np.ndarray, tmp_path: Path) -> None:
    content = checkpoint(frames)
    content["state_dict"]["post_processor.image_max"] = torch.tensor(float("nan"))
    with pytest.raises(PadimEdgeError, match=r"never validated.*--good DIR"):
        import_anomalib(written(tmp_path / "a.ckpt", content), tmp_path / "a.onnx", progress=False)


_RESIZE = spec("Resize", size=[64, 64], interpolation="bilinear", max_size=None, antialias=True)
_NORMALISE = spec("Normalize", mean=[0.5, 0.5, 0.5], std=[0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([spec("Resize", size=[256], max_size=None), _NORMALISE], "depend on the image"),
        ([spec("Resize", size=[64, 64], max_size=80), _NORMALISE], "depend on the image"),
        ([spec("Resize", size=[64, 64], interpolation="nearest"), _NORMALISE], "only bilinear and bicubic"),
        ([_RESIZE, spec("Grayscale"), _NORMALISE], "only Resize, perhaps CenterCrop, and Normalize"),
        ([_NORMALISE], "only Resize"),
        ([_RESIZE, spec("CenterCrop", size=[61, 61]), _NORMALISE], "half a pixel"),
        ([_RESIZE, spec("CenterCrop", size=[80, 80]), _NORMALISE], "would pad"),
        ([_RESIZE, spec("Normalize", mean=[0.5], std=[0.2])], "three numbers"),
    ],
)
def test_other_preprocessings_are_refused_with_the_reason(steps: list[Any], why: str) -> None:
    with pytest.raises(PadimEdgeError, match=f"cannot be carried over: .*{why}.*; fit again"):
        frame_of(spec("Compose", transforms=steps))


@pytest.mark.slow
def test_a_crop_and_another_normalisation_are_carried_over(tmp_path: Path) -> None:
    steps = [
        _RESIZE | {"init_args": _RESIZE["init_args"] | {"size": [72, 72]}},
        spec("CenterCrop", size=64),
        _NORMALISE,
    ]
    content = checkpoint(drawn(3, 10), transform=spec("Compose", transforms=steps))
    made = import_anomalib(written(tmp_path / "a.ckpt", content), tmp_path / "a.onnx", progress=False)
    assert made.certificate.difference <= CLOSE
    assert made.metadata.preprocessing.crop == (64, 64)


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("ran"),)


def test_code_in_a_checkpoint_does_not_run(frames: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "a.ckpt", checkpoint(frames) | {"more": _Evil()})
    with pytest.raises(PadimEdgeError, match=r"would run code out of the file; load it with anomalib 2\.7"):
        read_checkpoint(path)
    assert not (tmp_path / "ran").exists()
    bare = tmp_path / "b.ckpt"
    bare.write_bytes(pickle.dumps({}))
    with pytest.raises(PadimEdgeError, match=r"not a file of torch\.save"):
        read_checkpoint(bare)


def _without(name: str) -> Any:
    return lambda content: content["state_dict"].pop(name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (_without("model.gaussian.mean"), "not a fitted PaDiM of anomalib 2.x"),
        (lambda content: content.pop("hyper_parameters"), "holds no state_dict with hyper_parameters"),
        (lambda content: content.pop("anomalib_pre_processor_config"), "written by an anomalib before 2.7"),
        (lambda content: content["hyper_parameters"].update(backbone="efficientnet_b5"), "efficientnet_b5.*cannot be"),
        (lambda content: content["hyper_parameters"].update(layers=["layer2", "layer1"]), "in this order"),
        (lambda content: content["hyper_parameters"].update(tiler="on"), "tiling cannot be carried over"),
        (lambda content: content["state_dict"]["model.gaussian.mean"].fill_(float("nan")), "not finite"),
    ],
)
def test_what_cannot_be_carried_over_is_said(change: Any, sentence: str, frames: np.ndarray, tmp_path: Path) -> None:
    content = checkpoint(frames)
    change(content)
    with pytest.raises(PadimEdgeError, match=sentence):
        read_checkpoint(written(tmp_path / "a.ckpt", content))


@pytest.mark.slow
def test_gaussians_of_another_frame_are_refused(frames: np.ndarray, tmp_path: Path) -> None:
    content = checkpoint(frames, transform=spec("Compose", transforms=[_RESIZE, _NORMALISE]))
    config = content["anomalib_pre_processor_config"]["transform"]["init_args"]["transforms"][0]
    config["init_args"]["size"] = [96, 96]
    with pytest.raises(PadimEdgeError, match="holds 256 Gaussians, and layer1 of resnet18 has 24 x 24 cells"):
        import_anomalib(written(tmp_path / "a.ckpt", content), tmp_path / "a.onnx", progress=False)


def test_an_inverse_covariance_that_rounding_made_indefinite_is_lifted() -> None:
    generator = np.random.default_rng(0)
    square = generator.normal(size=(3, 5, 5)).astype(np.float32)
    given = square @ square.transpose(0, 2, 1) + np.eye(5, dtype=np.float32)
    found, lifted = _inverted(given)
    assert lifted == 0
    assert found @ given == pytest.approx(np.broadcast_to(np.eye(5), (3, 5, 5)), abs=1e-5)
    given[1, 0, 0] -= 100
    found, lifted = _inverted(given)
    assert lifted == 1
    assert np.linalg.eigvalsh(found).min() > 0


def test_a_certificate_that_fails_says_so() -> None:
    one = Certificate(
        source="a", source_digest="", reference="", model_digest="", threshold=1.0, threshold_of="", images=()
    )
    assert one.passed
    assert one.difference == 0


def test_the_command_imports_and_tells(file: Path, tmp_path: Path, frames: np.ndarray) -> None:
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(tmp_path / f"{number}.png")
    app = typer.Typer()
    app.command("import")(import_)
    app.command("other")(lambda: None)
    output = tmp_path / "out.onnx"
    arguments = ["import", "anomalib", str(file), "-o", str(output), "--class", "part", "--images", str(tmp_path)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert "parity passed: 14 images" in done.output
    assert read_metadata(output).class_name == "part"
    with pytest.raises(PadimEdgeError, match="no import from 'patchcore'"):
        CliRunner().invoke(app, ["import", "patchcore", str(file)], catch_exceptions=False)


def test_the_checkpoints_of_these_tests_hold_anomalibs_numbers(file: Path) -> None:
    source = read_checkpoint(file)
    covariance = np.linalg.inv(source.precision.astype(np.float64))
    assert np.linalg.eigvalsh(covariance).min() == pytest.approx(RIDGE, rel=1e-2)
    own = load_file(weights_of("resnet18"))
    assert torch.equal(source.state["conv1.weight"], own["conv1.weight"])
    assert isinstance(network(), torch.nn.Module)
