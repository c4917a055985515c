"""What ships is PaDiM: the file through onnxruntime against the float64 reference, for every preset and backbone."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest
import reference
import torch
from PIL import Image

from padim_edge import sample
from padim_edge.build import build
from padim_edge.calibrate import leave_one_out
from padim_edge.datasets import GOOD, Dataset, Item
from padim_edge.presets import PRESETS, Preset
from padim_edge_artifact import Preprocessing
from padim_edge_export import backbones, reduction
from padim_edge_runtime import Detector, images

TOLERANCE = 1e-4
"""Relative, at every pixel of the map. The shipped graph computes in float32 (rounding 6e-8), which the whitening
magnifies by up to 1 / sqrt(ridge) = 18; 1.2e-5 is the most seen on full-size pictures."""

CALIBRATION_TOLERANCE = 1e-3
"""Relative. With fewer pictures than dimensions, 1 - c d^2 in the closed form is small and magnifies the rounding."""

SHARED = Path(os.environ.get("PADIM_EDGE_SHARED", Path(__file__).parents[3] / "shared"))


def small(preset: Preset) -> Preset:
    """The same method on 64 x 64 pixels and 20 dimensions, for speed; a crop stays a crop."""
    crop = None if preset.preprocessing.crop is None else (64, 64)
    side = 64 if crop is None else 72
    return dataclasses.replace(preset, preprocessing=Preprocessing((side, side), crop), dims=20)


def trunk_of(name: str, monkeypatch: pytest.MonkeyPatch) -> backbones.Trunk:
    """A backbone that needs no weights file: `resnet18` gets fixed-seed ones."""
    if name == "builtin":
        return backbones.load(name)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = backbones.BACKBONES[name].build().state_dict()
    monkeypatch.setattr(backbones, "_read_state", lambda *_: (state, "random weights of a test"))
    return backbones.load(name)


def items(pictures: list[Image.Image]) -> tuple[Item, ...]:
    return tuple(Item(str(i), GOOD, lambda p=p: images.Picture(p, ()), None) for i, p in enumerate(pictures))


def check_parity(
    trunk: backbones.Trunk, preset: Preset, good: list[Image.Image], judged: list[Image.Image], path: Path
) -> None:
    """Build a model from `good`, and compare its answers on `judged` with the reference, batch by batch."""
    built = build(Dataset("part", items(good), ()), path, preset, trunk, seed=3)
    detector = Detector.load(built.model, "cpu")

    channels = trunk.description.channels
    _, stages = reduction.draw(preset.reduction, channels, preset.dims, 3, preset.shares)
    joint = preset.reduction == "semi-orthogonal" and preset.shares is None
    matrix = reference.reduction_matrix(stages, channels, joint=joint)

    def embed(pictures: list[Image.Image]) -> np.ndarray:
        frames = np.stack([images.prepare(each, preset.preprocessing) for each in pictures])
        return reference.embedding(trunk, frames, matrix, preset.pooling)

    gaussians = reference.fit(embed(good), preset.ridge)
    distances = reference.distance(gaussians, embed(judged))
    size = preset.preprocessing.size
    maps = reference.anomaly_map(distances, size, preset.sigma)

    frames = np.stack([images.prepare(each, preset.preprocessing) for each in judged])
    together = detector(frames)
    np.testing.assert_allclose(together.patch_distance, distances, rtol=TOLERANCE)
    np.testing.assert_allclose(together.anomaly_map, maps, rtol=TOLERANCE)
    np.testing.assert_allclose(together.score, maps.max(axis=(1, 2)), rtol=TOLERANCE)
    for i, frame in enumerate(frames):
        single = detector(frame)
        np.testing.assert_allclose(single.anomaly_map[0], maps[i], rtol=TOLERANCE)
        assert single.score[0] == single.anomaly_map[0].max()

    # The calibration, too: leave-one-out distances of the fitted pictures, in float64, through the reference's map.
    inside = leave_one_out(reference.distance(gaussians, embed(good)), len(good))
    expected = np.sort(reference.anomaly_map(inside, size, preset.sigma).max(axis=(1, 2)))
    np.testing.assert_allclose(built.metadata.calibration.scores, expected, rtol=CALIBRATION_TOLERANCE)
    assert built.metadata.threshold == built.metadata.calibration.threshold(0.01)


@pytest.mark.parametrize("backbone", backbones.BACKBONES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_file_equals_the_reference_on_small_frames(
    preset: str, backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = [Image.fromarray(sample.draw_good("weave", i, size=80)) for i in range(30)]
    judged = [Image.fromarray(sample.draw_good("weave", i, size=80, split="test")) for i in range(3)]
    judged += [Image.fromarray(sample.draw_defect("weave", "hole", i, size=80)[0]) for i in range(2)]
    check_parity(trunk_of(backbone, monkeypatch), small(PRESETS[preset]), good, judged, tmp_path / "m.onnx")


def test_a_joint_projection_and_a_frame_that_is_not_square_equal_the_reference(tmp_path: Path) -> None:
    """No preset uses these, but a caller may."""
    preset = dataclasses.replace(
        PRESETS["accurate"], shares=None, dims=15, preprocessing=Preprocessing((64, 96), interpolation="bilinear")
    )
    good = [Image.fromarray(sample.draw_good("bottle", i, size=80)) for i in range(12)]
    judged = [Image.fromarray(sample.draw_defect("bottle", "chip", i, size=80)[0]) for i in range(2)]
    check_parity(backbones.load("builtin"), preset, good, judged, tmp_path / "m.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("part", ["bottle", "screw"])
@pytest.mark.parametrize("preset", PRESETS)
def test_the_file_equals_the_reference_on_full_size_pictures(preset: str, part: str, tmp_path: Path) -> None:
    """Real weights, real pictures: bottle 900 x 900 in colour, screw 1024 x 1024 in grey; batch of 5 and singles."""
    weights = SHARED / "weights" / "resnet18-imagenet1k-v1-trunk.safetensors"
    full = sorted((SHARED / "data" / "full_size" / part).glob("*.png"))
    if not weights.is_file() or not full:
        pytest.skip(f"needs the real weights and pictures in {SHARED} (or PADIM_EDGE_SHARED)")
    train = sorted((SHARED / "data" / "mvtec_ad" / part / "train" / "good").iterdir())[:24]
    good = [images.read(path).image for path in train]
    judged = [images.read(path).image for path in full]
    judged = [*(judged * 5)[:4], judged[0].rotate(3)]
    check_parity(backbones.load("resnet18", str(weights)), PRESETS[preset], good, judged, tmp_path / "m.onnx")
