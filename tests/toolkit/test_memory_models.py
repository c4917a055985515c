"""Models of a memory, from good images to a file: judged, calibrated, turned, and made of few or odd images."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from drawn_memory import parts
from PIL import Image
from small_models import dataset, export_model, fitted, rounded_to_nearest, small

from padim_edge.datasets import Dataset
from padim_edge.exports import Job, export_class
from padim_edge.fitted import load_fitted
from padim_edge.model import Model
from padim_edge_artifact import Memory, PadimEdgeError
from padim_edge_artifact.method import Bank, Method, Precision
from padim_edge_learn.merge import merge_kept
from padim_edge_model import onnx_file
from padim_edge_model.fused import fuse
from padim_edge_model.graph import of_kept
from padim_edge_model.memory import nearest_of
from padim_edge_runtime import Detector
from padim_edge_runtime.devices.providers import open_session
from padim_edge_runtime.progress import SILENT

COUNT = 32

MERGED = 0.06
"""Most that the mean score of fresh images may differ between merged memories and one pass."""


def images_of(frames: np.ndarray) -> list[Image.Image]:
    return [Image.fromarray(frame).resize((64, 64)) for frame in frames]


GOOD = images_of(parts(COUNT))
FRESH = images_of(parts(30, seed=1))


def spoiled(count: int) -> list[Image.Image]:
    """Parts with a chequered square on them or beside them."""
    frames = parts(count, seed=2)
    frames[:, 10:20, 11:21] = np.where(np.indices((10, 10)).sum(axis=0) // 2 % 2, 250, 5)[..., None]
    return images_of(frames)


def remembering(precision: Precision | None = None, *, preset: str = "free", **bank: object) -> Method:
    """Method of a memory with few prototypes."""
    method = small(preset, precision=precision or Precision())
    assert method.bank is not None
    changes = {"prototypes": 300, "share": None} if preset == "free" else {}
    return dataclasses.replace(method, bank=dataclasses.replace(method.bank, **(changes | bank)))  # type: ignore[arg-type]


def scores(path: Path, images: list[Image.Image]) -> np.ndarray:
    detector = Detector.load(path, "cpu")
    return np.asarray(detector(np.stack([detector.prepare(image) for image in images])).score)


def memory(model: Model) -> Memory:
    assert isinstance(model.kept.statistics, Memory)
    return model.kept.statistics


@pytest.fixture(scope="module")
def part() -> Dataset:
    return dataset(GOOD)


@pytest.fixture(scope="module")
def plain(part: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Model:
    return export_model(part, tmp_path_factory.mktemp("plain") / "weave.onnx", remembering())


@pytest.mark.parametrize("preset", ["free", "patchcore"])
def test_a_defect_scores_higher_than_good_images(part: Dataset, preset: str, tmp_path: Path) -> None:
    model = export_model(part, tmp_path / "weave.onnx", remembering(preset=preset))
    good, bad = scores(model.path, FRESH), scores(model.path, spoiled(8))
    if preset == "free":
        assert bad.min() > 1.5 * good.max()
        assert bad.min() > 1.2 * model.threshold
    else:  # without the covariance, twenty dimensions of the small network tell them apart on the whole only
        assert np.median(bad) > 1.2 * np.median(good)
    assert model.metadata.prototypes == (300 if preset == "free" else memory(model).patches.sum() // 10)
    assert Detector.load(model.path, "cpu").self_test().passed


@pytest.mark.parametrize(("name", "turned"), [("fp32", True), ("fp16", False), ("int8", False)])
def test_good_images_are_judged_by_the_model_that_ships_without_their_fold(
    part: Dataset, name: str, turned: bool, tmp_path: Path
) -> None:
    """In its precision, and as they are: flipped and turned images are learned from, and not judged."""
    method = remembering(Precision(name), turned=turned)
    with rounded_to_nearest():
        model = export_model(part, tmp_path / "weave.onnx", method)
    assert model.metadata.calibration.images == len(model.scores) == COUNT
    kept, size = model.kept, method.preprocessing.size
    detector = Detector.load(model.path, "cpu")
    frames = np.stack([detector.prepare(item.read().image) for item in part.good])
    assert memory(model).patches.sum() == COUNT * 64 * (8 if turned else 1)
    for fold in (0, 5):
        nearest = nearest_of(memory(model), method, {fold})
        fused = fuse(of_kept(kept), nearest, size, method.sigma)
        session = open_session(onnx_file.whole(fused), "cpu").session
        own = memory(model).fold_of == fold
        (expected,) = session.run(["score"], {"image": frames[own]})
        np.testing.assert_allclose(np.array(model.scores)[own], expected, rtol=1e-5)


def test_scores_outside_the_fit_are_those_of_fresh_images(plain: Model) -> None:
    fresh, inside = scores(plain.path, FRESH), scores(plain.path, GOOD)
    assert 0.9 < np.median(plain.scores) / np.median(fresh) < 1.2
    assert np.median(inside) < 0.9 * np.median(fresh)
    assert (fresh > plain.threshold).mean() < 0.1


def upright(count: int, seed: int = 0) -> list[Image.Image]:
    """Parts that all lie in the same direction."""
    return images_of(parts(count, seed, upright=True))


def test_a_memory_of_turned_images_knows_parts_that_are_turned(tmp_path: Path) -> None:
    fresh = upright(12, seed=1)
    quarter = [image.transpose(Image.Transpose.ROTATE_90) for image in fresh]
    mirrored = [image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for image in fresh]
    found = {}
    for turned in (False, True):
        path = tmp_path / f"{turned}.onnx"
        export_model(dataset(upright(24)), path, remembering(prototypes=2000, turned=turned))
        found[turned] = [np.median(scores(path, images)) for images in (fresh, quarter, mirrored)]
    as_learned, *others = found[True]
    assert all(0.8 < other / as_learned < 1.25 for other in others), found
    as_learned, *others = found[False]
    assert all(other > 1.5 * as_learned for other in others), found


@pytest.mark.parametrize("count", [2, 3])
def test_a_few_images_make_a_model(count: int, tmp_path: Path) -> None:
    model = export_model(dataset(GOOD[:count]), tmp_path / "few.onnx", remembering())
    assert model.metadata.images == model.metadata.calibration.images == count
    assert 0 < min(model.scores) <= max(model.scores) <= model.threshold * 1.0001
    assert any("too few to trust" in sentence for sentence in model.warnings)


def test_images_without_variation_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PadimEdgeError, match="no variation"):
        export_model(dataset(GOOD[:1] * 5), tmp_path / "same.onnx", remembering())
    assert not list(tmp_path.iterdir())


def test_repeats_are_no_evidence(plain: Model, tmp_path: Path) -> None:
    model = export_model(dataset([image for image in GOOD for _ in range(3)]), tmp_path / "a.onnx", remembering())
    assert (model.metadata.images, model.metadata.independent) == (3 * COUNT, COUNT)
    assert model.metadata.calibration.images == COUNT
    assert model.threshold == pytest.approx(plain.threshold, rel=0.15)
    again = export_model(dataset(GOOD * 3), tmp_path / "b.onnx", remembering())
    assert again.threshold == pytest.approx(plain.threshold, rel=0.25)


def test_parts_in_turn_are_evidence_once_they_are_named(tmp_path: Path) -> None:
    """Eight parts, photographed one after the other, ten times."""
    part = dataset(GOOD[:8] * 10)
    with pytest.raises(PadimEdgeError, match=r"8 of the 8 independent good images come again"):
        export_model(part, tmp_path / "a.onnx", remembering())
    named = tuple(dataclasses.replace(item, group=f"part {i % 8}") for i, item in enumerate(part.good))
    model = export_model(dataclasses.replace(part, good=named), tmp_path / "a.onnx", remembering())
    alone = export_model(dataset(GOOD[:8]), tmp_path / "b.onnx", remembering())
    assert model.metadata.independent == 8
    assert model.threshold == pytest.approx(alone.threshold, rel=0.15)


def test_an_odd_image_among_the_good_ones_is_named_and_left_out(tmp_path: Path) -> None:
    part = dataset([*GOOD[:7], *spoiled(1), *GOOD[7:20]])
    model = export_model(part, tmp_path / "a.onnx", remembering())
    assert [each.item for each in model.suspects] == [part.good[7]]
    made = export_class(part, tmp_path / "b.onnx", Job(remembering(), exclude_suspects=True), SILENT)
    assert [each.item.name for each in made.left_out] == [part.good[7].name]
    assert made.model.metadata.images == 20
    assert made.model.threshold < model.threshold


def test_kept_statistics_give_the_model_that_fitting_gives(part: Dataset, plain: Model, tmp_path: Path) -> None:
    fitted(part, remembering()).save(tmp_path / "a.npz")
    again = load_fitted(tmp_path / "a.npz", part).export(tmp_path / "a.onnx", progress=False)
    assert again.metadata.digests.model == plain.metadata.digests.model
    some = dataclasses.replace(part, good=part.good[3:20:2])
    about = load_fitted(tmp_path / "a.npz", some).export(tmp_path / "b.onnx", progress=False).metadata
    assert (about.images, about.calibration.images) == (COUNT, 9)
    strangers = dataset(FRESH[:3])
    with pytest.raises(PadimEdgeError, match="3 of the 3 good images were not fitted on"):
        load_fitted(tmp_path / "a.npz", strangers).export(tmp_path / "c.onnx", progress=False)


def test_merged_memories_judge_as_one_pass(tmp_path: Path) -> None:
    method = remembering()
    whole = fitted(dataset(GOOD), method)
    first, second = (fitted(dataset(some), method).kept for some in (GOOD[:13], GOOD[13:]))
    found = []
    for name, kept in (
        ("whole", whole.kept),
        ("merged", merge_kept(first, second)),
        ("back", merge_kept(second, first)),
    ):
        model = dataclasses.replace(whole, kept=kept).export(tmp_path / f"{name}.onnx", progress=False)
        found.append((model.threshold, scores(model.path, FRESH).mean(), scores(model.path, spoiled(8)).mean()))
    for other in found[1:]:
        np.testing.assert_allclose(other[1:], found[0][1:], rtol=MERGED)
        assert other[0] == pytest.approx(found[0][0], rel=0.2)


def test_a_method_of_a_memory_has_a_bank_and_no_rank() -> None:
    with pytest.raises(PadimEdgeError, match="no Gaussians to cut"):
        remembering(Precision(rank=5))
    with pytest.raises(PadimEdgeError, match="a number and a share"):
        Bank(prototypes=5, share=0.1)
